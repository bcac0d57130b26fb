"""What a study of latency has measured, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from lorakit.text import plural, table

BASE = "base"
"""The candidate that ratios are over."""
_LEAST_VALUES = 2
"""That have quartiles."""


@dataclass(frozen=True)
class Spread:
    """The median of several values, and the quartiles around it."""

    median: float
    """Half of the values are below."""
    low: float
    """A quarter of the values are below."""
    high: float
    """A quarter of the values are above."""

    def __str__(self) -> str:
        """
        >>> str(Spread(1.2345, 1.2, 123.4))
        '1.23 (1.2 to 123)'
        """
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Latency:
    """One candidate with batches of one size."""

    candidate: str
    """The method's title, or the base. Of a method that merges with how it runs: merged (within
    `lorakit.merged`), unmerged (as trained), folded (plain modules, as `lorakit merge` writes)."""
    batch: int
    """Number of texts."""
    length: int
    """Number of tokens in each."""
    milliseconds: Spread
    """Of a forward without gradients."""
    slowdown: Spread
    """Over the base in the same round."""
    rounds: int
    """How often it was measured."""


@dataclass(frozen=True)
class LatencyTable:
    """What a study has measured."""

    model: str
    """As the study names it."""
    model_class: str
    """transformers' class."""
    model_parameters: int
    """Of the base, without a head."""
    device: str
    """Where it ran."""
    dtype: str
    """What it computed in."""
    threads: int
    """Of the processor, as torch uses them."""
    parameters: Mapping[str, int]
    """What the method of each candidate trains, heads apart."""
    cells: tuple[Latency, ...]
    """By batch, length and candidate; the base first."""

    def __str__(self) -> str:
        head = ("batch", "length", "candidate", "parameters", "ms", "over the base", "rounds")
        rows = [
            (
                one.batch,
                one.length,
                one.candidate,
                f"{self.parameters[one.candidate]:,}",
                str(one.milliseconds),
                str(one.slowdown),
                one.rounds,
            )
            for one in self.cells
        ]
        return "\n".join([self.conditions, *table([head, *rows])])

    @property
    def conditions(self) -> str:
        """What was held fixed, in one sentence."""
        where = self.device if self.device != "cpu" else f"cpu, {plural(self.threads, 'thread')}"
        return (
            f"{self.model_class} of {self.model} ({self.model_parameters:,} parameters, random), "
            f"{self.dtype}, {where}: one forward without gradients; median (quartiles), and the "
            "same of its ratio to the base in the same round"
        )


def spread(values: Sequence[float]) -> Spread:
    """
    >>> spread([1.0, 2.0, 3.0, 4.0, 9.0])
    Spread(median=3.0, low=2.0, high=4.0)
    """
    if len(values) < _LEAST_VALUES:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)
