"""The events of a step as numbers: the peak, what it holds, and the curve over the step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lorakit.planner.recording import CATEGORIES, Block, Event


@dataclass(frozen=True)
class Point:
    """The live bytes of each category at one moment."""

    phase: str
    bytes_by: dict[str, int]

    @property
    def total(self) -> int:
        """All live bytes."""
        return sum(self.bytes_by.values())


@dataclass(frozen=True)
class Timeline:
    """A step's memory over time."""

    peak: Point
    at: float
    """Where in the step the peak is, as a share of its operations."""
    modules: dict[str, dict[str, int]]
    """Bytes at the peak by the module that has them, or in whose forward they were born, and
    category; "" is what belongs to none."""
    curve: tuple[Point, ...]
    """Some of the moments, those with most bytes among them."""


def timeline(events: Sequence[Event], points: int = 200) -> Timeline:
    """The peak and the curve of a recorded step; the curve has the largest of every few moments."""
    steps = list(moments(events))
    top = max(range(len(steps)), key=lambda n: steps[n].total)
    every = max(1, len(steps) // points)
    stretches = (steps[n : n + every] for n in range(0, len(steps), every))
    return Timeline(
        peak=steps[top],
        at=top / len(steps),
        modules=_modules(events, top),
        curve=tuple(max(some, key=lambda point: point.total) for some in stretches),
    )


def _nbytes(event: Event) -> int:
    return event.block.nbytes


def moments(events: Sequence[Event], size: Callable[[Event], int] = _nbytes) -> Iterator[Point]:
    """The live bytes after each event of the step; those before it are its start.

    `size` is what a block counts for, asked at its birth.
    """
    live = dict.fromkeys(CATEGORIES, 0)
    sizes: dict[Block, int] = {}
    for event in events:
        if event.born:
            live[event.block.category] += sizes.setdefault(event.block, size(event))
        else:
            live[event.block.category] -= sizes.pop(event.block)
        if event.phase:
            yield Point(event.phase, dict(live))


def _modules(events: Sequence[Event], top: int) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    left = top + 1
    for event in events:
        if event.phase:
            if left == 0:
                break
            left -= 1
        found[event.block.module][event.block.category] += event.change
    return {name: dict(+of) for name, of in found.items() if +of}
