"""Jobs of a sweep that one process makes, as far as they can share a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lorakit.cli.machines import Machines
from lorakit.errors import ConfigError
from lorakit.experiments.jobs import Job, Outcome
from lorakit.experiments.local_runs import local_runs
from lorakit.experiments.progress import Progress
from lorakit.experiments.running import run_sweep
from lorakit.experiments.together_runs import MOST, groups_of, recipe_of_all, together_runs
from lorakit.recipe.adapter_recipes import adapter_recipes
from tests.experiments import quick_program
from tests.experiments.sweeps import Runs, run, sweep
from tests.training import tiny


def job(directory: Path, name: str, **changes: object) -> Job:
    found = Job(name, "a kind", directory / name)
    recipe = {"output": str(found.directory), "base": "b", "data": {"train": "t.csv"}, **changes}
    found.recipe.write_text(json.dumps(recipe))
    return found


def names(groups: list[list[Job]]) -> list[str]:
    return [" ".join(job.name for job in group) for group in groups]


def test_jobs_that_share_a_base_are_one_group(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "a"),
        job(tmp_path, "head", method="head"),
        job(tmp_path, "b", lora={"r": 2}, training={"seed": 1}),
        job(tmp_path, "half", training={"dtype": "bf16"}),
        job(tmp_path, "other", base="c"),
        job(tmp_path, "rdrop", loss={"kind": "rdrop"}),
        job(tmp_path, "data", data={"train": "u.csv"}),
    ]
    assert names(groups_of(jobs)) == ["a b data", "head", "half", "other", "rdrop"]


def test_a_group_has_a_limit(tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"j{n}") for n in range(2 * MOST + 1)]
    assert [len(group) for group in groups_of(jobs)] == [MOST, MOST, 1]


def test_a_sweep_is_made_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_program.install(tmp_path, monkeypatch)
    run(sweep(tmp_path), together_runs(local_runs(1), 1))
    assert len(list(tmp_path.rglob("result.json"))) == 8
    made = {log.parent.parent.name for log in tmp_path.rglob("*.log")}
    assert len(list(tmp_path.rglob("*.log"))) == 1 + 4, made  # one of all LoRA runs, and the heads'


def test_one_that_fails_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_program.install(tmp_path, monkeypatch)
    monkeypatch.setenv("PROGRAM", "if recipe['training']['seed']: sys.exit('diverged')")
    table = run(sweep(tmp_path, methods=["lora"], tasks=["one"]), together_runs(local_runs(1), 1))
    (error,) = tmp_path.rglob("*.error")
    assert error.read_text() == "diverged"
    assert table.failures
    monkeypatch.setenv("PROGRAM", "")
    run(sweep(tmp_path, methods=["lora"], tasks=["one"]), together_runs(local_runs(1), 1))
    assert not list(tmp_path.rglob("*.error"))


def test_jobs_of_a_group_have_names_of_their_own_that_are_directories(tmp_path: Path) -> None:
    called = ["sst2 small/LoRA", "sst2/small LoRA", r"one/lora, lora.target_modules=.*\.q seed 0"]
    jobs = [replace(job(tmp_path, f"j{n}"), name=name) for n, name in enumerate(called)]
    mapping = yaml.safe_load(recipe_of_all(jobs))
    found = adapter_recipes(mapping)
    assert [recipe.output for recipe in found.values()] == [str(job.directory) for job in jobs]


def test_a_group_holds_up_the_sweep_for_its_own_time_however_many_run_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(group: list[Job], *_: object) -> list[Outcome]:
        return [Outcome(job, None, 10.0 / len(group)) for job in group]

    monkeypatch.setattr("lorakit.experiments.together_runs.run_jobs", slow)
    jobs = [job(tmp_path, name) for name in "abcd"]
    progress = Progress(at_once=4, left=dict.fromkeys(jobs))
    outcomes = together_runs(local_runs(4), 4)(jobs, progress.start)
    progress.end(next(outcomes))
    assert progress.seconds_left() == pytest.approx(3 / 4 * 10)


@pytest.mark.parametrize("together", [False, True])
def test_results_of_groups_do_not_tell_how_long_the_rest_takes(
    tmp_path: Path, together: bool
) -> None:
    """Their seconds are the group's, of which each has a share."""
    mapping = sweep(tmp_path)
    run(mapping, Runs())
    (tmp_path / "tiny" / "one" / "lora" / "seed-0" / "result.json").unlink()
    told: list[float | None] = []
    run_sweep(
        mapping,
        Runs(),
        1,
        lambda progress, text: told.append(progress.seconds_left()),
        together=together,
    )
    assert told[0] == (None if together else 2.0)


@pytest.mark.slow
def test_results_are_those_of_one_run_each(tmp_path: Path) -> None:
    base = tiny.save_encoder(tmp_path / "base", dropout=0.0)
    settings = {
        "data.train": str(tiny.save_reviews(tmp_path / "reviews.csv")),
        "data.task": "classification",
        "training.max_steps": 3,
        "training.dtype": "fp32",
        "training.learning_rate": 0.01,
    }
    tables = []
    for place, execute in {
        "alone": local_runs(1),
        "together": together_runs(local_runs(1), 1),
    }.items():
        mapping = {
            "output": str(tmp_path / place),
            "base": str(base),
            "settings": settings,
            "methods": ["lora"],
            "tasks": ["one"],
            "seeds": [0, 1],
        }
        tables.append(run(mapping, execute))
    assert not any(table.failures for table in tables)
    found = [sorted((tmp_path / p).rglob("result.json")) for p in ("alone", "together")]
    assert [f.relative_to(tmp_path / "alone") for f in found[0]] == [
        f.relative_to(tmp_path / "together") for f in found[1]
    ]
    for one, other in zip(*found, strict=True):
        metrics = [json.loads(file.read_text())["metrics"] for file in (one, other)]
        assert metrics[0] == pytest.approx(metrics[1], rel=1e-3)


def test_the_command_makes_them_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_program.install(tmp_path, monkeypatch)
    machines = Machines(1, None, None, None, together=True)
    assert machines.given == {"--jobs": 1, "--together": True}
    with machines.executor() as (execute, at_once):
        run(sweep(tmp_path, methods=["lora"], tasks=["one"]), execute)
    assert at_once == 1
    assert len(list(tmp_path.rglob("result.json"))) == 2
    assert len(list(tmp_path.rglob("*.log"))) == 1


def test_together_is_for_this_machine() -> None:
    with pytest.raises(ConfigError, match="--together makes runs in one process"):
        Machines(None, "auto", None, None, together=True)
