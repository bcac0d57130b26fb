"""A sweep run to its end: first what values are chosen by, then the runs of the table.

Whatever ends this process, what is finished stays: a run is known by the result in its directory,
and the tables are written anew after each. An interruption leaves all of them, and the page, as
far as the sweep has got.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from lorakit.errors import SaveError
from lorakit.experiments.choosing import choice, nothing_to_choose
from lorakit.experiments.jobs import Executor, Job, Outcome
from lorakit.experiments.plan import Plan, PlannedRun, cell_name
from lorakit.experiments.progress import Progress
from lorakit.experiments.recipes import recipe_of
from lorakit.experiments.renderers import RENDERERS
from lorakit.experiments.state import job_of, leftovers, require_unchanged, result_of
from lorakit.experiments.sweep_file import COPY, runnable
from lorakit.experiments.sweep_table import sweep_table
from lorakit.experiments.table import Table
from lorakit.files import atomic_write_text, obstacle
from lorakit.locks import exclusive, holder
from lorakit.recipe.yaml_file import mapping_text, to_yaml
from lorakit.runs.claim import abandon
from lorakit.runs.writing import writing
from lorakit.text import plural

Show = Callable[[Progress, str], None]
"""(the state, what has just happened)"""
Publish = Callable[[Plan, Table], None]
"""What is done beside writing the tables when the sweep ends or is interrupted."""


def run_sweep(
    mapping: Mapping[str, Any],
    execute: Executor,
    at_once: int,
    show: Show,
    publish: Publish = lambda plan, table: None,
    together: bool = False,
) -> Table:
    """Run what has no result yet, and write the tables; a run that fails stands there as failed.

    `mapping` is the content of a sweep's file. `execute` makes the runs, `at_once` at a time by
    which `show` is told how long the rest takes; it gets the state and what has happened. `publish`
    gets the plan and the table when the sweep ends or is interrupted. Runs that are made `together`
    have results with the seconds of all of them, by which nothing is told.

    Raises ConfigError that lists every mistake, StateError that names the runs that were begun with
    other settings, SaveError if another process runs the sweep or its output cannot be written.
    """
    plan = runnable(mapping)
    kept, anew = require_unchanged(plan)
    progress = Progress(at_once)
    _survey(plan, set(), progress)
    if not together:
        progress.seconds = _recorded_seconds(plan)
    if kept:
        show(progress, f"{plural(kept, 'finished run')} of this sweep in {plan.output}")
    for directory in leftovers(plan):
        show(progress, f"{directory} is a run of no cell of this sweep any more, and stays")
    with writing(plan.output), exclusive(plan.output):
        atomic_write_text(plan.output / COPY, mapping_text(mapping))
        for run in anew:
            abandon(run.directory)
            show(progress, f"{run.name}: made anew, as its settings have changed; it had no result")
        with _published(plan, publish):
            _run_all(plan, execute, progress, show)
    return sweep_table(plan)


def _run_all(plan: Plan, execute: Executor, progress: Progress, show: Show) -> None:
    done: set[Path] = set()
    while runs := _ready(plan, done):
        _survey(plan, done, progress)
        done |= {run.directory for run in runs}
        _run(plan, runs, execute, progress, show)
    for variant, task in plan.cells:
        if (why := nothing_to_choose(plan, variant, task)) is not None:
            show(progress, f"{cell_name(variant, task)}: {why}")


@contextmanager
def _published(plan: Plan, publish: Publish) -> Iterator[None]:
    """Write the tables, and publish, at the end of the block, or when it is interrupted."""

    def write() -> None:
        table = sweep_table(plan)
        write_tables(table, plan.output)
        publish(plan, table)

    try:
        yield
    except BaseException:
        with suppress(SaveError):  # what ended the block is more than what stays unwritten
            write()
        raise
    write()


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
    first: dict[str, str] = {}  # the job that failed with an error first

    def started(job: Job) -> None:
        other = holder(job.directory)  # an earlier call was killed, and what it started goes on
        with lock:
            progress.start(job)
            show(progress, f"{job.name}: {f'waiting for {other}' if other else 'started'}")

    def ended(outcome: Outcome) -> None:
        said = outcome.error or "finished"
        if outcome.error is not None and (other := first.setdefault(said, outcome.job.name)):
            said = said if other == outcome.job.name else f"failed as {other} did"
        with lock:
            progress.end(outcome)
            show(progress, f"{outcome.job.name}: {said}")

    with closing(execute([job_of(run) for run in runs], started)) as outcomes:
        for outcome in outcomes:
            ended(outcome)
            _require_space(plan, outcome, progress)
            write_tables(sweep_table(plan), plan.output)


def _write_recipe(plan: Plan, run: PlannedRun) -> None:
    file = job_of(run).recipe
    with writing(file, plan.output):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, to_yaml(recipe_of(plan, run)))


_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


def _require_space(plan: Plan, outcome: Outcome, progress: Progress) -> None:
    """Raise SaveError where a run failed as others would: the output has no room.

    A disk that is full elsewhere, such as that of a node, is nothing that the output suffers from.
    """
    if outcome.error is None:
        return
    found = obstacle(plan.output)
    why = _full(outcome.job, outcome.error) if found is None else found.strerror
    if why is not None:
        raise SaveError(
            f"{plan.output} can no longer be written: {why}. What is finished stays as it is "
            f"({plural(progress.finished, 'run')}); make room, and run the same command again."
        )


def _full(job: Job, error: str) -> str | None:
    """What a run says of its own directory, from which it has deleted what did not fit."""
    return next((f for f in _FULL if f in error), None) if str(job.directory) in error else None


def _survey(plan: Plan, done: set[Path], progress: Progress) -> None:
    """Count what is finished and what is left, before each of the two rounds."""
    progress.finished, progress.left = 0, {}
    for run in {run.directory: run for run in _expected(plan)}.values():
        result = result_of(run)
        if result is not None:
            progress.finished += 1
        elif run.directory not in done:
            progress.left[job_of(run)] = None


def _recorded_seconds(plan: Plan) -> dict[str, list[float]]:
    """How long a finished run of each kind took."""
    results = [(run.place, result_of(run)) for run in _expected(plan)]
    return {kind: [found["seconds"]] for kind, found in results if found is not None}


def _expected(plan: Plan) -> list[PlannedRun]:
    """The runs that there will be, with the first candidate's values where none are chosen yet."""
    runs: list[PlannedRun] = []
    for variant, task in plan.cells:
        candidates = plan.candidates(variant, task)
        chosen = choice(plan, variant, task)
        first = candidates[0].chosen if candidates else plan.only_choice(variant)
        runs += candidates
        if nothing_to_choose(plan, variant, task) is None:
            runs += plan.runs(variant, task, first if chosen is None else chosen)
    return runs
