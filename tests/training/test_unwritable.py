"""A full disk, a deleted output: the message says what and where, and the same command goes on."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lorakit import errors
from lorakit.recipe.schema import Recipe
from lorakit.training import completion, train
from tests.training import tiny


def silent(text: str) -> None:
    """No log."""


@pytest.fixture(scope="module")
def expected(encoder, reviews, tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing disturbs."""
    output = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)  # as each test has it
    train(tiny.recipe(encoder, reviews, output), silent)
    return tiny.adapter_of(output)


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Sets the size that a file may have (RLIMIT_FSIZE), until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_goes_on(recipe: Recipe, expected: dict[str, torch.Tensor]) -> list[str]:
    """The same command ends as if nothing had been; returns what it said."""
    said: list[str] = []
    train(recipe, said.append)
    tiny.assert_same(tiny.adapter_of(Path(recipe.output)), expected)
    return said


@pytest.mark.parametrize(
    ("size", "error", "place"),
    [
        (100, errors.ConfigError, "The run directory {output} cannot be written: "),
        (2000, errors.SaveError, "{output}/origin.json could not be written: File too large"),
        (12000, errors.SaveError, "{checkpoint} could not be written: File too large"),
        (25000, errors.SaveError, "{checkpoint} could not be written: File too large"),
    ],
    ids=["recipe", "origin", "adapter", "optimizer"],
)
def test_files_that_cannot_grow_are_told(
    size, error, place, encoder, reviews, tmp_path, limit, expected
):
    recipe = tiny.recipe(encoder, reviews, tmp_path / "run")
    limit(size)
    with pytest.raises(error) as caught:
        train(recipe, silent)
    limit(resource.RLIM_INFINITY)
    checkpoint = tmp_path / "run/checkpoints/checkpoint-3"
    assert place.format(output=tmp_path / "run", checkpoint=checkpoint) in str(caught.value)
    assert not checkpoint.exists(), "half of it would fill the disk"
    assert_goes_on(recipe, expected)


@pytest.mark.parametrize(
    ("moment", "place"),
    [
        ("save_adapter", "adapter"),
        ("save_task", "adapter"),
        ("write_files", "predictions.jsonl"),
    ],
)
def test_a_disk_that_is_full_after_training_is_told(
    moment, place, encoder, reviews, tmp_path, limit, expected, monkeypatch
):
    recipe, function = tiny.recipe(encoder, reviews, tmp_path), getattr(completion, moment)

    def with_full_disk(*arguments: Any) -> Any:
        limit(50)
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(completion, moment, with_full_disk)
        with pytest.raises(errors.SaveError, match=str(tmp_path / place)) as caught:
            train(recipe, silent)
    limit(resource.RLIM_INFINITY)
    assert "File too large" in str(caught.value)
    assert "resuming from" in " ".join(assert_goes_on(recipe, expected))


@pytest.mark.parametrize("step", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 11))])
def test_an_output_that_is_deleted_is_told_and_not_made_again(
    step, encoder, reviews, tmp_path, expected, monkeypatch
):
    output = tmp_path / "run"
    recipe = tiny.recipe(encoder, reviews, output)
    with monkeypatch.context() as patch:
        tiny.do_at_step(patch, step, lambda: shutil.rmtree(output))
        with pytest.raises(errors.SaveError, match=f"{output} was deleted or moved while"):
            train(recipe, silent)
    assert not output.exists()
    assert_goes_on(recipe, expected)


def test_an_output_that_another_run_has_taken_over_is_left_to_it(
    encoder, reviews, tmp_path, monkeypatch
):
    output = tmp_path / "run"
    recipe = tiny.recipe(encoder, reviews, output)

    def take_over() -> None:
        shutil.move(output, tmp_path / "elsewhere")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiny.LoraTrainer, "training_step", whole)
            tiny.interrupt(recipe, 5)

    whole = tiny.LoraTrainer.training_step
    with monkeypatch.context() as patch:
        tiny.do_at_step(patch, 4, take_over)
        with pytest.raises(errors.SaveError, match="was deleted or moved while"):
            train(recipe, silent)
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoints", "origin.json", "recipe.yaml"
    ]  # fmt: skip


@pytest.mark.parametrize("step", [4, 11])
def test_a_disk_that_becomes_read_only_is_told(
    step, encoder, reviews, tmp_path, mount, expected, monkeypatch
):
    recipe, place = tiny.recipe(encoder, reviews, tmp_path), tmp_path / "checkpoints"
    said = rf"{place}/checkpoint-\d+.*Read-only file system.*the same command again"
    with monkeypatch.context() as patch:
        tiny.do_at_step(patch, step, lambda: mount(place, "ro"))
        with pytest.raises(errors.SaveError, match=said):
            train(recipe, silent)
    mount(place, "")
    assert_goes_on(recipe, expected)


def test_a_run_cannot_begin_on_a_read_only_disk(encoder, reviews, tmp_path, mount):
    mount(tmp_path, "ro")
    with pytest.raises(errors.ConfigError, match=r"cannot be written: .*Read-only file system"):
        train(tiny.recipe(encoder, reviews, tmp_path / "run"), silent)


@pytest.mark.parametrize("size", ["32k", "64k", "128k", "256k"])
def test_a_disk_that_is_full_is_told(size, encoder, reviews, tmp_path, mount, expected):
    """torch.save's own words are "unexpected pos 576 vs 534"."""
    recipe = tiny.recipe(encoder, reviews, tmp_path)
    mount(tmp_path, f"size={size}")
    with pytest.raises(errors.SaveError, match=r"could not be .*: .*No space left on device"):
        train(recipe, silent)
    mount(tmp_path, "remount,size=8m")
    assert_goes_on(recipe, expected)
