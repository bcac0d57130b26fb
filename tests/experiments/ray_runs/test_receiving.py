"""Files that come from a node stand in the run's directory whole and once, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lorakit import errors
from lorakit.experiments.ray_runs.receiving import receive
from lorakit.locks import exclusive
from lorakit.recipe.yaml_file import load_recipe
from tests.experiments.ray_runs.runs import job, trained

FILES = {"adapter/model.safetensors": b"tensors", "log.json": b"[]"}


def contents(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_a_received_run_is_as_if_it_had_been_made_here(tmp_path: Path) -> None:
    run = job(tmp_path)
    receive(run, trained(**FILES))
    found = contents(run.directory)
    assert found.keys() == {*FILES, "recipe.yaml", "result.json"}
    assert {name: found[name] for name in FILES} == FILES
    assert json.loads(found["result.json"])["output"] == str(run.directory)
    assert load_recipe(run.directory / "recipe.yaml")["output"] == str(run.directory)
    assert run.is_finished


def test_what_an_unfinished_run_left_is_replaced(tmp_path: Path) -> None:
    run = job(tmp_path)
    receive(run, trained(**FILES))
    (run.directory / "result.json").unlink()
    (run.directory / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (run.directory / "predictions.jsonl").touch()
    receive(run, trained(**FILES))
    assert contents(run.directory).keys() == {*FILES, "recipe.yaml", "result.json"}
    assert not (run.directory / "checkpoints").exists()


def test_a_result_that_is_there_stays(tmp_path: Path) -> None:
    run = job(tmp_path)
    receive(run, trained(**FILES))
    before = contents(run.directory)
    receive(run, trained(**{"log.json": b"other"}))
    assert contents(run.directory) == before


def test_a_run_of_another_recipe_is_not_overwritten(tmp_path: Path) -> None:
    run = job(tmp_path)
    run.directory.mkdir()
    (run.directory / "recipe.yaml").write_text(run.recipe.read_text().replace("t.csv", "u.csv"))
    with pytest.raises(errors.StateError, match=r"data\.train is 'u\.csv' in that run"):
        receive(run, trained(**FILES))
    assert contents(run.directory).keys() == {"recipe.yaml"}


def test_a_run_that_another_process_makes_is_left_to_it(tmp_path: Path) -> None:
    run = job(tmp_path)
    with exclusive(run.directory), pytest.raises(errors.SaveError, match="is being written by"):
        receive(run, trained(**FILES))
    assert not run.is_finished


def test_a_full_disk_leaves_no_result(tmp_path: Path, monkeypatch) -> None:
    run, flush = job(tmp_path), os.fsync
    written: list[int] = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 4:
            raise OSError(28, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(errors.SaveError, match="No space left on device"):
        receive(run, trained(**FILES))
    monkeypatch.undo()
    assert not run.is_finished
    receive(run, trained(**FILES))
    assert contents(run.directory).keys() == {*FILES, "recipe.yaml", "result.json"}
