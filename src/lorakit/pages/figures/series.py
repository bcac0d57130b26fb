"""What is drawn: points with their spread, in named series, along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A value at a place, which is a number or a name."""

    at: float | str
    """The place."""
    value: float
    """What was measured there; what is not finite is not drawn, and its place stays."""
    low: float | None = None
    """The lower end of its spread; None where it has none."""
    high: float | None = None
    """The upper end."""
    samples: Sequence[float] = ()
    """The single values that it summarises, drawn small."""

    @property
    def spread(self) -> tuple[float, float]:
        """How far the spread reaches below and above the value."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return self.value - low, high - self.value


@dataclass(frozen=True)
class Series:
    """Points of one name, colour and mark; those follow from its place among the series.

    A series without points keeps its place: so it looks alike in each of several panels.
    """

    name: str
    points: Sequence[Point]
    hollow: bool = False
    """Marks without a filling, such as those of published figures."""


@dataclass(frozen=True)
class Axis:
    """What an axis measures."""

    label: str
    """With the unit."""
    log: bool = False
    """Whether equal distances are equal factors."""
    low: float | None = None
    """Where it begins; None leaves that to the values."""
    high: float | None = None
    """Where it ends."""

    def has(self, value: float) -> bool:
        """Whether the value has a place on the axis."""
        return math.isfinite(value) and (value > 0 or not self.log)
