"""Values of named things, one below the other: as dots with their spread, or as bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lorakit.pages.figures.marks import filling_of, fitted, set_axis, set_title, style_of
from lorakit.pages.figures.palette import INK, MUTED, SERIES, colour_number
from lorakit.pages.figures.panel import Panel, keys_of
from lorakit.pages.figures.series import Axis, Point, Series
from lorakit.pages.figures.svg import draw

_WIDTH, _ROW, _FRAME = 3.05, 0.24, 0.75  # inches
_LONGEST_NAME = 110  # points, half of the width
_FILLED = 0.76
"""How much of a name's height its series have together."""


def dots(series: Sequence[Series], axis: Axis, title: str = "") -> Panel:
    """A dot for each name and series, with a bar for its spread and its samples small."""

    def paint(axes: Any) -> None:
        for at, position, point in _placed(series, axis):
            below, above = point.spread
            axes.plot(
                point.samples,
                [position] * len(point.samples),
                linestyle="none",
                marker="o",
                markersize=2.2,
                color=MUTED,
                zorder=3,  # above the spread
            )
            style = style_of(at, series[at].hollow)
            axes.errorbar(point.value, position, xerr=[[below], [above]], **style)
        axes.grid(axis="y", linestyle=(0, (1, 3)))
        set_axis(axes.xaxis, axis)

    return _panel(series, paint, title)


def bars(
    series: Sequence[Series],
    axis: Axis,
    title: str = "",
    form: Callable[[float], str] = "{:g}".format,
) -> Panel:
    """A bar from zero for each name and series, with its value at its end as `form` writes it."""

    def paint(axes: Any) -> None:
        for at, position, point in _placed(series, axis):
            axes.barh(position, point.value, _share(series), color=SERIES[colour_number(at)])
            _write_at(axes, position, point.value, form)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)  # room for the values
        set_axis(axes.xaxis, axis)

    return _panel(series, paint, title)


def stacked_bars(
    series: Sequence[Series],
    axis: Axis,
    title: str = "",
    form: Callable[[float], str] = "{:g}".format,
) -> Panel:
    """A bar for each name, with a part for each series, and their sum at its end.

    Values are not negative; a name that a series lacks has nothing of it.
    """

    def paint(axes: Any) -> None:
        names = _names(series)
        ends = dict.fromkeys(names, 0.0)
        for at, one in enumerate(series):
            for point in (point for point in one.points if axis.has(point.value)):
                name = str(point.at)
                axes.barh(
                    names.index(name),
                    point.value,
                    _FILLED,
                    ends[name],
                    **filling_of(at),
                )
                ends[name] += point.value
        for at, end in enumerate(ends.values()):
            _write_at(axes, at, end, form)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)  # room for the sums
        set_axis(axes.xaxis, axis)

    return _panel(series, paint, title, rows_each=1)


def _write_at(axes: Any, at: float, value: float, form: Callable[[float], str]) -> None:
    """A value at the end of its bar."""
    axes.annotate(
        form(value), (value, at), (4, 0), textcoords="offset points", va="center", size=8, color=INK
    )


def _panel(
    series: Sequence[Series],
    paint: Callable[[Any], None],
    title: str,
    rows_each: int | None = None,
) -> Panel:
    names = _names(series)

    def whole(axes: Any) -> None:
        paint(axes)
        axes.set_yticks(range(len(names)), [fitted(name, _LONGEST_NAME) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(max(len(names), 1) - 0.5, -0.5)  # the first on top
        axes.spines["left"].set_visible(False)
        set_title(axes, title)

    rows = len(names) * (0.65 + 0.35 * (rows_each or len(series)))
    return Panel(draw(whole, _WIDTH, _FRAME + _ROW * rows), keys_of(series))


def _placed(series: Sequence[Series], axis: Axis) -> Iterator[tuple[int, float, Point]]:
    """Each point with the place of its series and its own, one unit a name."""
    names, step = _names(series), _share(series)
    for at, one in enumerate(series):
        for point in one.points:
            if axis.has(point.value):
                yield at, names.index(str(point.at)) + step * (at - (len(series) - 1) / 2), point


def _share(series: Sequence[Series]) -> float:
    """How much of a name's height each series has."""
    return _FILLED / max(len(series), 1)


def _names(series: Sequence[Series]) -> list[str]:
    return list(dict.fromkeys(str(point.at) for one in series for point in one.points))
