"""A sweep run to its end: first what values are chosen by, then the runs of the table.

Whatever ends this process, what is finished stays: a run is known by the result in its directory,
and the tables are written anew after each.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from lorakit.errors import SaveError
from lorakit.experiments.jobs import Executor, Job
from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.progress import Progress
from lorakit.experiments.recipes import recipe_of
from lorakit.experiments.renderers import RENDERERS
from lorakit.experiments.state import choice, job_of, leftovers, require_unchanged, result_of
from lorakit.experiments.sweep_file import COPY, runnable
from lorakit.experiments.sweep_table import sweep_table
from lorakit.experiments.table import Table
from lorakit.files import atomic_write_text, obstacle
from lorakit.locks import exclusive, holder
from lorakit.recipe.yaml_file import mapping_text, to_yaml
from lorakit.runs.writing import writing
from lorakit.text import plural

Show = Callable[[Progress, str], None]
"""(the state, what has just happened)"""


def run_sweep(mapping: Mapping[str, Any], execute: Executor, at_once: int, show: Show) -> Table:
    """Run what has no result yet, and write the tables; a run that fails stands there as failed.

    `mapping` is the content of a sweep's file. `execute` makes the runs, `at_once` at a time by
    which `show` is told how long the rest takes; it gets the state and what has happened.

    Raises ConfigError that lists every mistake, StateError that names the runs that were begun with
    other settings, SaveError if another process runs the sweep or its output cannot be written.
    """
    plan = runnable(mapping)
    kept, progress = require_unchanged(plan), Progress(at_once)
    _survey(plan, set(), progress)
    if kept:
        show(progress, f"{plural(kept, 'finished run')} of this sweep in {plan.output}")
    for directory in leftovers(plan):
        show(progress, f"{directory} is a run of no cell of this sweep any more, and stays")
    with writing(plan.output), exclusive(plan.output):
        atomic_write_text(plan.output / COPY, mapping_text(mapping))
        done: set[Path] = set()
        while runs := _ready(plan, done):
            _survey(plan, done, progress)
            done |= {run.directory for run in runs}
            _run(plan, runs, execute, progress, show)
        table = sweep_table(plan)
        write_tables(table, plan.output)
    return table


def write_tables(table: Table, output: Path) -> None:
    """The table in every form, beside the runs."""
    for ending, render in RENDERERS.items():
        file = output / f"table.{ending}"
        with writing(file):
            atomic_write_text(file, render(table) + "\n")


def _ready(plan: Plan, done: set[Path]) -> list[PlannedRun]:
    """The runs without a result that can be made now: candidates, and where values are known."""
    found: list[PlannedRun] = []
    for variant, task in plan.cells:
        chosen = choice(plan, variant, task)
        waiting = [run for run in plan.candidates(variant, task) if run.directory not in done]
        found += waiting
        if chosen is not None and not any(result_of(run) is None for run in waiting):
            found += plan.runs(variant, task, chosen)
    return [run for run in found if run.directory not in done and result_of(run) is None]


def _run(
    plan: Plan, runs: Sequence[PlannedRun], execute: Executor, progress: Progress, show: Show
) -> None:
    for run in runs:
        _write_recipe(plan, run)

    lock = Lock()  # jobs start in threads of their own, while others end in this one

    def started(job: Job) -> None:
        other = holder(job.directory)  # an earlier call was killed, and what it started goes on
        with lock:
            progress.start(job)
            show(progress, f"{job.name}: {f'waiting for {other}' if other else 'started'}")

    with closing(execute([job_of(run) for run in runs], started)) as outcomes:
        for outcome in outcomes:
            with lock:
                progress.end(outcome)
                show(progress, f"{outcome.job.name}: {outcome.error or 'finished'}")
            if outcome.error is not None:
                _require_space(plan, outcome.error, progress)
            write_tables(sweep_table(plan), plan.output)


def _write_recipe(plan: Plan, run: PlannedRun) -> None:
    file = job_of(run).recipe
    with writing(file, plan.output):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, to_yaml(recipe_of(plan, run)))


_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


def _require_space(plan: Plan, error: str, progress: Progress) -> None:
    """Raise SaveError where a run failed as others would: it had no room on the disk."""
    found = obstacle(plan.output)
    why = next((f for f in _FULL if f in error), None) if found is None else found.strerror
    if why is not None:
        raise SaveError(
            f"{plan.output} can no longer be written: {why}. What is finished stays as it is "
            f"({plural(progress.finished, 'run')}); make room, and run the same command again."
        )


def _survey(plan: Plan, done: set[Path], progress: Progress) -> None:
    """Count what is finished and what is left, before each of the two rounds."""
    progress.finished, progress.left = 0, {}
    for run in {run.directory: run for run in _expected(plan)}.values():
        result = result_of(run)
        if result is not None:
            progress.finished += 1
            progress.seconds.setdefault(run.place, [result["seconds"]])
        elif run.directory not in done:
            progress.left[job_of(run)] = None


def _expected(plan: Plan) -> list[PlannedRun]:
    """The runs that there will be, with the first candidate's values where none are chosen yet."""
    runs: list[PlannedRun] = []
    for variant, task in plan.cells:
        candidates = plan.candidates(variant, task)
        chosen = choice(plan, variant, task)
        first = candidates[0].chosen if candidates else plan.only_choice(variant)
        runs += [*candidates, *plan.runs(variant, task, first if chosen is None else chosen)]
    return runs
