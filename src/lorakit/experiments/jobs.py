"""One run of a sweep as a job: its files, how it ends, and who makes it.

An executor takes jobs and gives their outcomes as they come: `local_runs` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakit.experiments.results import result_in


@dataclass(frozen=True)
class Job:
    """A run to be made: `lorakit train` of the recipe that stands beside its directory."""

    name: str
    """What messages call it."""
    kind: str
    """Jobs of one kind take about the same time."""
    directory: Path
    """Where the run is made."""

    @property
    def recipe(self) -> Path:
        """The recipe as the sweep has it, before anything is derived from data or base."""
        return _beside(self.directory, ".yaml")

    @property
    def log(self) -> Path:
        """What its processes have printed, one after the other."""
        return _beside(self.directory, ".log")

    @property
    def error(self) -> Path:
        """Why it failed, if it did."""
        return _beside(self.directory, ".error")

    @property
    def is_finished(self) -> bool:
        """Whether it has a result."""
        return result_in(self.directory) is not None


@dataclass(frozen=True)
class Outcome:
    """A job that has ended."""

    job: Job
    """Which one."""
    error: str | None
    """Why it failed; None: it has a result."""
    seconds: float
    """How long it took, with its start, as one of those that run at a time."""


Outcomes = Generator[Outcome, None, None]
"""In the order in which the jobs end; when it is closed, it ends what was started."""
Executor = Callable[[Sequence[Job], Callable[[Job], None]], Outcomes]
"""(jobs, what to call when one starts) -> their outcomes"""


def _beside(directory: Path, ending: str) -> Path:
    return directory.with_name(directory.name + ending)
