"""The pictures of plans: what lives at the peak, side by side, and the bytes over the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lorakit.pages import Figure
from lorakit.pages.figures import Axis, Panel, Point, Series, areas, stacked_bars
from lorakit.planner.timeline import Timeline
from lorakit.text import size_text

_SPANS = {"clipping": "update", "optimizer": "update"}
"""Phases that are short, and named together."""


def peaks(bytes_by: Mapping[str, Mapping[str, int]], of: str) -> Figure:
    """A bar for each method, with a part for each category; `of` says whose bytes they are."""
    unit, size = _unit(sum(parts.values()) for parts in bytes_by.values())
    series = _series(
        {
            category: [(name, parts[category]) for name, parts in bytes_by.items()]
            for category in next(iter(bytes_by.values()))
        },
        size,
    )
    return Figure(
        caption=f"What lives at the peak of a step {of}, by category.",
        alt="; ".join(_in_words(name, parts) for name, parts in bytes_by.items()),
        panels=[stacked_bars(series, Axis(unit, low=0), form=f"{{:,.3g}} {unit}".format)],
    )


def curves(timelines: Mapping[str, Timeline]) -> Figure:
    """A panel for each method: the live bytes over the step, the peak marked."""
    return Figure(
        caption="Live bytes over the step, from its first allocation to its last; in each "
        "stretch the moment with most. ▼ is the peak.",
        alt="; ".join(
            f"{name} peaks at {size_text(one.peak.total)}, {one.at:.0%} into the step, in the "
            f"{one.peak.phase}"
            for name, one in timelines.items()
        ),
        panels=[_curve(name, one) for name, one in timelines.items()],
    )


def _curve(name: str, memory: Timeline) -> Panel:
    curve = memory.curve
    unit, size = _unit(point.total for point in curve)
    places = [100 * at / len(curve) for at in range(len(curve))]
    phases = [_SPANS.get(point.phase, point.phase) for point in curve]
    top = max(range(len(curve)), key=lambda at: curve[at].total)
    return areas(
        _series(
            {
                category: [(x, p.bytes_by[category]) for x, p in zip(places, curve, strict=True)]
                for category in memory.peak.bytes_by
            },
            size,
        ),
        Axis("step, %"),
        Axis(unit, low=0),
        name,
        [(phase, places[phases.index(phase)]) for phase in dict.fromkeys(phases)],
        (places[top], f"{curve[top].total / size:,.3g} {unit}"),
    )


def _series(values: Mapping[str, Sequence[tuple[float | str, int]]], size: float) -> list[Series]:
    """By category; one of which there is nothing keeps its colour."""
    return [
        Series(name, [Point(at, value / size) for at, value in points] if _any(points) else [])
        for name, points in values.items()
    ]


def _any(points: Sequence[tuple[float | str, int]]) -> bool:
    return any(value for _, value in points)


def _unit(sizes: Iterable[int]) -> tuple[str, float]:
    return ("GB", 1e9) if max(sizes) >= 1e9 else ("MB", 1e6)


def _in_words(name: str, parts: Mapping[str, int]) -> str:
    largest = max(parts, key=lambda category: parts[category])
    return (
        f"{name} {size_text(sum(parts.values()))}, of which {size_text(parts[largest])} {largest}"
    )
