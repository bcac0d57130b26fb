"""What of a sweep is on the disk: results, errors, runs of another recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, StateError
from lorakit.experiments.jobs import Job
from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.recipes import recipe_of
from lorakit.experiments.results import result_in
from lorakit.locks import holder
from lorakit.recipe.schema import Recipe, differences, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.checkpoints import complete_checkpoints
from lorakit.runs.directory import CHECKPOINTS, RECIPE, RESULT
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


def require_unchanged(plan: Plan) -> tuple[int, list[PlannedRun]]:
    """The number of finished runs that are the sweep's, and the runs that are to be made anew.

    Those were begun with other settings than the sweep has now, and nothing of them would be lost.
    Raises StateError that names all others which were.
    """
    kept, anew, changed = 0, [], []
    for run in plan.every_run:
        if not (run.directory / RECIPE).exists():
            continue
        found = _changes(run, recipe_of(plan, run))
        kept += not found and (run.directory / RESULT).is_file()
        if found and _has_something(run.directory):
            changed.append(f"{run.directory} ({'; '.join(found)})")
        elif found:
            anew.append(run)
    if changed:
        raise StateError(
            f"The sweep has changed since {plural(len(changed), 'run')} of it; "
            f"{plural(kept, 'finished run')} {'is' if kept == 1 else 'are'} as it says and would "
            "be kept. Delete these, change the sweep back, or choose another output:",
            changed,
        )
    return kept, anew


def leftovers(plan: Plan) -> list[Path]:
    """The finished runs of a sweep in the output that are none of this one's."""
    known = {run.directory for run in plan.every_run}
    found = {file.parent for file in plan.output.rglob(RESULT)}
    return sorted(path for path in found - known if Job("", "", path).recipe.is_file())


def _changes(run: PlannedRun, recipe: Recipe) -> list[str]:
    beside = job_of(run).recipe
    try:
        return differences(from_mapping(load_recipe(beside)), recipe)
    except ConfigError as error:
        return [f"it is not known what it was begun with: {error}"]


def _has_something(directory: Path) -> bool:
    """Whether a run is finished, could go on from a checkpoint, or goes on now."""
    made = (directory / RESULT).exists() or complete_checkpoints(directory / CHECKPOINTS)
    return bool(made) or holder(directory) is not None
