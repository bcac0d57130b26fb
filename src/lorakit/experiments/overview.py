"""The runs of a sweep before they are made: which there are, and which have a result."""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.experiments.choosing import choice, nothing_to_choose
from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.state import error_of, require_unchanged, result_of
from lorakit.text import plural, table


@dataclass(frozen=True)
class OverviewRun:
    """One run."""

    name: str
    directory: str
    state: str
    """finished, failed, or to run."""


@dataclass(frozen=True)
class Overview:
    """All runs that there will be; where values are not chosen yet, one for each seed."""

    runs: tuple[OverviewRun, ...]

    def __str__(self) -> str:
        lines = table([("run", "state"), *((run.name, run.state) for run in self.runs)])
        finished = sum(run.state == "finished" for run in self.runs)
        left = len(self.runs) - finished
        return "\n".join(
            [*lines, f"{plural(len(self.runs), 'run')}, {finished:,} finished, {left:,} to make"]
        )


def overview(plan: Plan) -> Overview:
    """What `run_sweep` would do; raises what it would raise before the first run."""
    require_unchanged(plan)
    runs = []
    for variant, task in plan.cells:
        chosen = choice(plan, variant, task)
        unknown = "to run" if nothing_to_choose(plan, variant, task) is None else "failed"
        runs += [
            OverviewRun(run.name, str(run.directory), _state(run))
            for run in plan.candidates(variant, task)
        ]
        for run in plan.runs(variant, task, {} if chosen is None else chosen):
            runs.append(
                OverviewRun(run.name, str(run.directory), _state(run))
                if chosen is not None
                else OverviewRun(f"{run.name}, as chosen", "", unknown)
            )
    return Overview(tuple(runs))


def _state(run: PlannedRun) -> str:
    if result_of(run) is not None:
        return "finished"
    return "to run" if error_of(run) is None else "failed"
