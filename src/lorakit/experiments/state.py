"""What of a sweep is on the disk: results, errors, runs of another recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, StateError
from lorakit.experiments.entries import Entry
from lorakit.experiments.headlines import headlines
from lorakit.experiments.jobs import Job
from lorakit.experiments.plan import Plan, PlannedRun, Variant
from lorakit.experiments.recipes import recipe_of
from lorakit.experiments.results import result_in
from lorakit.experiments.sweep import Settings
from lorakit.experiments.table import Column
from lorakit.recipe.schema import Recipe, differences, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import RECIPE, RESULT
from lorakit.text import plural


def job_of(run: PlannedRun) -> Job:
    """The run as a job."""
    return Job(run.name, run.place, run.directory)


def result_of(run: PlannedRun) -> Mapping[str, Any] | None:
    """The result of a finished run."""
    return result_in(run.directory)


def error_of(run: PlannedRun) -> str | None:
    """Why a run has failed when it was last tried; None if it has not."""
    file = job_of(run).error
    return file.read_text(encoding="utf-8") if file.is_file() else None


def choice(plan: Plan, variant: Variant, task: Entry) -> Settings | None:
    """The candidate with the best headline; None while one has neither a result nor an error.

    Of equal ones it is the first.
    """
    candidates = plan.candidates(variant, task)
    if not candidates:
        return plan.only_choice(variant)
    results = [result_of(run) for run in candidates]
    pairs = zip(candidates, results, strict=True)
    if any(result is None and error_of(run) is None for run, result in pairs):
        return None
    scores = [None if result is None else _score(task, result) for result in results]
    known = [score for score in scores if score is not None]
    return candidates[scores.index(max(known))].chosen if known else None


def require_unchanged(plan: Plan) -> int:
    """The number of finished runs that are the sweep's; raises StateError that names all others.

    Those are the runs that were begun with other settings than the sweep has now.
    """
    kept, changed = 0, []
    for run in every_run(plan):
        if not (run.directory / RECIPE).exists():
            continue
        found = _changes(run, recipe_of(plan, run))
        changed += [f"{run.directory} ({'; '.join(found)})"] if found else []
        kept += not found and (run.directory / RESULT).is_file()
    if changed:
        raise StateError(
            f"The sweep has changed since {plural(len(changed), 'run')} of it; "
            f"{plural(kept, 'finished run')} {'is' if kept == 1 else 'are'} as it says and would "
            "be kept. Delete these, change the sweep back, or choose another output:",
            changed,
        )
    return kept


def leftovers(plan: Plan) -> list[Path]:
    """The finished runs of a sweep in the output that are none of this one's."""
    known = {run.directory for run in every_run(plan)}
    found = {file.parent for file in plan.output.rglob(RESULT)}
    return sorted(path for path in found - known if Job("", "", path).recipe.is_file())


def every_run(plan: Plan) -> Iterator[PlannedRun]:
    """The candidates, and all runs that could be chosen by them."""
    for variant, task in plan.cells:
        candidates = plan.candidates(variant, task)
        yield from candidates
        for chosen in [run.chosen for run in candidates] or [plan.only_choice(variant)]:
            yield from plan.runs(variant, task, chosen)


def headline(task: Entry, result: Mapping[str, Any]) -> tuple[Column, float]:
    """The first metric that the table shows of a task, which values are chosen by."""
    wanted = tuple(task.own.get("metrics", ()))
    name, value = next(iter(headlines(result["task"], result["metrics"], wanted).items()))
    return Column(task.name, name), value


def _score(task: Entry, result: Mapping[str, Any]) -> float | None:
    """The headline as a number of which more is better."""
    column, value = headline(task, result)
    return None if value != value else -value if column.shown.lower_is_better else value


def _changes(run: PlannedRun, recipe: Recipe) -> list[str]:
    beside = job_of(run).recipe
    try:
        return differences(from_mapping(load_recipe(beside)), recipe)
    except ConfigError as error:
        return [f"it is not known what it was begun with: {error}"]
