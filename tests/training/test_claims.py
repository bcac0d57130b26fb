"""A run directory belongs to one run; the next one is told, and a result is never a traceback."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lorakit import errors
from lorakit.locks import exclusive
from lorakit.training import arguments, train
from tests.training import tiny


def silent(text: str) -> None:
    """No log."""


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_second_run_is_told_who_writes_and_the_first_ends_as_if_alone(
    encoder, reviews, tmp_path, monkeypatch
):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run", training={"max_steps": 6})
    step, said = arguments.LoraTrainer.training_step, list[str]()

    def disturbed(self: Any, *args: Any) -> Any:
        before = contents(tmp_path / "run")
        with pytest.raises(errors.SaveError) as caught:
            train(recipe, silent)
        said.append(str(caught.value))
        assert contents(tmp_path / "run") == before
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(arguments.LoraTrainer, "training_step", disturbed)
        train(recipe, silent)
    assert said[0].startswith(f"{tmp_path / 'run'} is being written by process {os.getpid()} on ")
    assert len(said) == 6
    alone = tiny.recipe(encoder, reviews, tmp_path / "alone", training={"max_steps": 6})
    train(alone, silent)
    tiny.assert_same(tiny.adapter_of(tmp_path / "run"), tiny.adapter_of(tmp_path / "alone"))


def test_a_held_directory_without_a_run_is_refused(encoder, reviews, tmp_path):
    with (
        exclusive(tmp_path / "run"),
        pytest.raises(errors.SaveError, match="is being written by process"),
    ):
        train(tiny.recipe(encoder, reviews, tmp_path / "run"), silent)


def test_a_run_that_makes_nothing_leaves_room_for_a_corrected_recipe(
    encoder, reviews, tmp_path, monkeypatch
):
    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(arguments.LoraTrainer, "training_step", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(tiny.recipe(encoder, reviews, tmp_path / "run"), silent)
    assert list(tmp_path.iterdir()) == []
    train(tiny.recipe(encoder, reviews, tmp_path / "run", training={"max_steps": 1}), silent)


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "lo',
        '{"steps": 4}',
        *(pytest.param(text, marks=pytest.mark.slow) for text in ("", "[]", "null", "[" * 90000)),
    ],
)
def test_a_result_that_cannot_be_read_is_said_and_made_again(text, encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 4})
    first = train(recipe, silent)
    (tmp_path / "result.json").write_text(text)
    said: list[str] = []
    assert train(recipe, said.append).metrics == first.metrics
    assert any("result.json cannot be read and is made again: " in line for line in said)
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 4


def test_a_result_of_a_newer_version_is_read_as_far_as_it_is_known(encoder, reviews, tmp_path):
    recipe = tiny.recipe(encoder, reviews, tmp_path, training={"max_steps": 2})
    first = train(recipe, silent)
    newer = json.dumps({**asdict(first), "energy": {"joules": 3}})
    (tmp_path / "result.json").write_text(newer)
    assert train(recipe, silent) == first
    assert (tmp_path / "result.json").read_text() == newer
