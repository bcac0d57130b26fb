"""What becomes of a job by what comes back from the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorakit.experiments.jobs import Job, Outcome
from lorakit.experiments.ray_runs.cluster import Lost
from lorakit.experiments.ray_runs.executor import ray_runs
from tests.experiments.ray_runs.runs import Here, job, trained


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Job:
    monkeypatch.chdir(tmp_path)
    return job(tmp_path)


def outcomes(run: Job, answer: object) -> list[Outcome]:
    started: list[Job] = []
    found = list(ray_runs(Here({run.name: answer}))([run], started.append))
    assert started == [run]
    return found


def test_a_run_that_comes_back_is_finished(run: Job) -> None:
    run.error.write_text("an earlier one")
    assert outcomes(run, trained()) == [Outcome(run, None, 2.5)]
    assert run.is_finished
    assert run.log.read_text() == "step 1\n"
    assert not run.error.exists()


def test_an_error_of_the_recipe_is_the_outcome(run: Job) -> None:
    assert outcomes(run, trained("The loss is nan.")) == [Outcome(run, "The loss is nan.", 2.5)]
    assert not run.is_finished
    assert run.log.read_text() == "step 1\n"
    assert run.error.read_text() == "The loss is nan."


def test_a_run_that_is_lost_each_time_has_failed(run: Job) -> None:
    error = "It did not come back from the Ray cluster: The node died."
    assert outcomes(run, Lost("The node died.")) == [Outcome(run, error, 0.0)]
    assert run.error.read_text() == error


def test_a_run_that_cannot_be_written_has_failed(run: Job) -> None:
    run.directory.mkdir()
    (run.directory / "mine.txt").touch()
    [outcome] = outcomes(run, trained())
    assert "is not empty and is not a run directory" in str(outcome.error)
    assert run.error.read_text() == outcome.error
    assert list(run.directory.iterdir()) == [run.directory / "mine.txt"]
