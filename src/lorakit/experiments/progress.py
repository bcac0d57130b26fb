"""What of a sweep is done, what runs, what is left, and how long that takes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from lorakit.experiments.jobs import Job, Outcome
from lorakit.text import duration_text, plural


@dataclass
class Progress:
    """The state of a sweep while it runs."""

    at_once: int
    finished: int = 0
    left: dict[Job, None] = field(default_factory=dict)
    """Jobs that have not ended."""
    running: dict[Job, None] = field(default_factory=dict)
    failed: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """How long the runs of a kind took."""

    @property
    def total(self) -> int:
        """All runs."""
        return self.finished + self.failed + len(self.left)

    def start(self, job: Job) -> None:
        """It runs now."""
        self.running[job] = None

    def end(self, outcome: Outcome) -> None:
        """It has ended, with a result or an error."""
        self.running.pop(outcome.job, None)
        self.left.pop(outcome.job, None)
        if outcome.error is None:
            self.finished += 1
            self.seconds.setdefault(outcome.job.kind, []).append(outcome.seconds)
        else:
            self.failed += 1

    def seconds_left(self) -> float | None:
        """An estimate by the runs that have ended; None before the first one.

        A kind that has not been seen takes the mean of those that have.
        """
        means = {kind: statistics.fmean(found) for kind, found in self.seconds.items()}
        if not means:
            return None
        usual = statistics.fmean(means.values())
        return sum(means.get(job.kind, usual) for job in self.left) / self.at_once

    def __str__(self) -> str:
        seconds = self.seconds_left()
        parts = [f"{self.finished} of {plural(self.total, 'run')}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.left and seconds is not None:
            parts.append(f"about {duration_text(seconds)} left")
        return ", ".join(parts)
