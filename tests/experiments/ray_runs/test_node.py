"""A run on a node: made in a directory that is gone afterwards, with its files as the answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lorakit.experiments.ray_runs.node import Trained, Work, facts, train_here
from lorakit.experiments.ray_runs.receiving import receive
from lorakit.locks import exclusive
from lorakit.recipe.schema import from_mapping
from tests.experiments.ray_runs.runs import job
from tests.training import tiny


@pytest.fixture
def mapping(tmp_path: Path, monkeypatch) -> dict[str, Any]:
    """A recipe whose paths are relative to where the sweep was begun."""
    tiny.save_encoder(tmp_path / "base")
    tiny.save_reviews(tmp_path / "reviews.csv")
    monkeypatch.chdir(tmp_path)
    data = {"train": "reviews.csv", "task": "classification"}
    training = {"max_steps": 2, "dtype": "fp32"}
    return {"base": "base", "data": data, "training": training, "output": "runs/one"}


def trained(mapping: dict[str, Any], directory: Path, *sources: str) -> Trained:
    """The answer, asked for from another directory."""
    os.chdir("/")  # monkeypatch goes back
    answers = train_here(Work(mapping, str(directory), sources))
    assert next(answers) is None, "first of all it says that it has begun"
    answer = next(answers)
    assert answer is not None
    return answer


def test_a_run_comes_back_as_files_without_checkpoints(mapping, tmp_path: Path) -> None:
    answer = trained(mapping, tmp_path)
    assert answer.error is None
    assert "step 2 of 2" in answer.log
    assert {"log.json", "predictions.jsonl", "origin.json", "curve.png"} <= answer.files.keys()
    assert "adapter/adapter_model.safetensors" in answer.files
    assert not any(name.startswith(("checkpoints", ".")) for name in answer.files)
    assert not Path(answer.recipe["output"]).exists()
    assert answer.result["steps"] == 2
    run = job(tmp_path)
    receive(run, answer)
    assert run.is_finished
    assert from_mapping(mapping).base == "base"


def test_a_recipe_that_fails_says_why(mapping, tmp_path: Path) -> None:
    answer = trained({**mapping, "base": "nowhere"}, tmp_path)
    assert "nowhere" in str(answer.error)
    assert (answer.result, answer.files) == ({}, {})


def test_what_nobody_foresaw_fails_one_run_with_a_traceback_in_its_log(
    mapping, tmp_path: Path, monkeypatch
) -> None:
    def breaks(*arguments: object, **options: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("lorakit.experiments.ray_runs.node.train", breaks)
    answer = trained(mapping, tmp_path)
    assert answer.error == "RuntimeError: out of memory"
    assert "Traceback" in answer.log


def test_a_path_that_is_missing_on_this_node_is_named_with_it(mapping, tmp_path: Path) -> None:
    answer = trained(mapping, tmp_path, str(tmp_path / "base"), "/gone/t.csv")
    assert answer.error == f"{os.uname().nodename} lacks /gone/t.csv."


def test_what_a_killed_run_left_on_a_node_is_deleted(mapping, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, young, held = (tmp_path / f"lorakit-run-{name}" for name in ("left", "young", "held"))
    for place in (left, young, held):
        (place / "run").mkdir(parents=True)
    with exclusive(held):
        for place in (left, held):
            os.utime(place, (0, 0))
        trained(mapping, tmp_path, "/gone/t.csv")
        assert set(tmp_path.glob("lorakit-run-*")) == {young, held}


def test_facts_are_the_version_and_what_is_missing(tmp_path: Path) -> None:
    found = facts([str(tmp_path), str(tmp_path / "gone")])
    assert found.missing == (str(tmp_path / "gone"),)
    assert found.version
