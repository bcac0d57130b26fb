"""Values over numbers, one on top of the other: what a sum is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorakit.pages.figures.marks import filling_of, fitted, set_axis, set_title
from lorakit.pages.figures.palette import INK, MUTED
from lorakit.pages.figures.panel import Panel, keys_of
from lorakit.pages.figures.series import Axis, Series
from lorakit.pages.figures.svg import draw

_SIZE = (4.2, 2.9)  # inches
_LONGEST_NAME = 60  # points


def areas(
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    title: str = "",
    spans: Sequence[tuple[str, float]] = (),
    peak: tuple[float, str] | None = None,
) -> Panel:
    """Each series as an area on top of those before it; all with points have them at one x each.

    `spans` are names of stretches of x with where each begins, and `peak` an x that is marked, on
    the sum, with a text.
    """
    drawn = {at: one.points for at, one in enumerate(series) if one.points}
    places = [float(point.at) for point in next(iter(drawn.values()), ())]
    sums = [sum(values) for values in zip(*_values(series), strict=True)]

    def paint(axes: Any) -> None:
        floor = [0.0] * len(places)
        for at, points in drawn.items():
            top = [low + point.value for low, point in zip(floor, points, strict=True)]
            axes.fill([*places, *places[::-1]], [*top, *floor[::-1]], **filling_of(at))
            floor = top
        for name, start in spans:
            axes.axvline(start, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)))
            below_top: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "va": "top"}
            _write(axes, fitted(name, _LONGEST_NAME), (start, 1.0), -2, **below_top)
        if peak is not None and sums:
            _mark(axes, peak, places, sums)
        axes.margins(x=0, y=0.25)  # room for the names of spans
        set_axis(axes.xaxis, x)
        set_axis(axes.yaxis, y)
        set_title(axes, title)

    return Panel(draw(paint, *_SIZE), keys_of(series))


def _values(series: Sequence[Series]) -> list[list[float]]:
    return [[point.value for point in one.points] for one in series if one.points]


def _mark(
    axes: Any, peak: tuple[float, str], places: Sequence[float], sums: Sequence[float]
) -> None:
    """A mark at the sum, its text towards the middle."""
    at, text = peak
    height = sums[places.index(at)]
    axes.plot(at, height, linestyle="none", marker="v", markersize=6, color=INK)
    _write(axes, text, (at, height), 5, right=at > (places[0] + places[-1]) / 2)


def _write(
    axes: Any, text: str, place: tuple[float, float], up: float, right: bool = False, **how: Any
) -> None:
    """A text beside a place, to its left or right, some points above it."""
    side: dict[str, Any] = {"ha": "right" if right else "left", "size": 8, "color": INK}
    beside = (-5 if right else 4, up)
    axes.annotate(text, place, beside, textcoords="offset points", **side, **how)
