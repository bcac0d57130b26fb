"""Values over numbers: as lines, or as points of which each stands for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorakit.pages.figures.marks import set_axis, set_title, style_of
from lorakit.pages.figures.panel import Panel, keys_of
from lorakit.pages.figures.series import Axis, Series
from lorakit.pages.figures.svg import draw

_LINES, _MARKS = (4.2, 2.9), (3.05, 2.5)  # inches


def lines(series: Sequence[Series], x: Axis, y: Axis, title: str = "") -> Panel:
    """Each series as marks joined by a line, with bars for their spread."""
    return _panel(series, x, y, title, joined=True)


def scatter(series: Sequence[Series], x: Axis, y: Axis, title: str = "") -> Panel:
    """Each series as marks alone, with bars for their spread."""
    return _panel(series, x, y, title, joined=False)


def _panel(series: Sequence[Series], x: Axis, y: Axis, title: str, joined: bool) -> Panel:
    drawn = [
        [point for point in one.points if x.has(float(point.at)) and y.has(point.value)]
        for one in series
    ]

    def paint(axes: Any) -> None:
        for at, points in enumerate(drawn):
            axes.errorbar(
                [point.at for point in points],
                [point.value for point in points],
                yerr=list(zip(*(point.spread for point in points), strict=True)) or None,
                linestyle="-" if joined else "none",
                **style_of(at, series[at].hollow),
            )
        places = {float(point.at) for points in drawn for point in points}
        set_axis(axes.xaxis, x, sorted(places) if joined else ())
        set_axis(axes.yaxis, y)
        set_title(axes, title)

    return Panel(draw(paint, *(_LINES if joined else _MARKS)), keys_of(series))
