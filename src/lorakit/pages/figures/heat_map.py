"""A matrix as colours, with their scale beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorakit.pages.figures.marks import fitted, set_title, short
from lorakit.pages.figures.panel import Panel
from lorakit.pages.figures.svg import draw

_WIDTH, _FRAME = 3.05, 0.9  # inches
_COLOURS = "cividis"  # read by the colour-blind and in grey: doi.org/10.1371/journal.pone.0199239
_DARK_HALF = 0.5
_LONGEST_LABEL, _LONGEST_NAME = 130, 50  # points
_MOST_NAMES, _MOST_WRITTEN = 9, 7


def heat_map(
    values: Sequence[Sequence[float]],
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    scale: tuple[float | None, float | None] = (None, None),
    title: str = "",
) -> Panel:
    """`values[row][column]` as colours from the least to the greatest, or over `scale`.

    `rows` and `columns` are the label of a side and the names along it, of which no more are
    written than fit. A value that is not a number (nan) is left blank. Where rows and
    columns are few, the values are written in them.
    """

    def paint(axes: Any) -> None:
        image = axes.imshow(
            values, cmap=_COLOURS, vmin=scale[0], vmax=scale[1], aspect="auto", interpolation="none"
        )
        axes.grid(visible=False)
        _name(axes.xaxis, *columns)
        _name(axes.yaxis, *rows)
        set_title(axes, title)
        if max(len(values), len(values[0])) <= _MOST_WRITTEN:
            _write(axes, values, image)
        colours = axes.figure.colorbar(image, ax=axes)
        colours.outline.set_visible(False)
        colours.solids.set_rasterized(True)  # one small picture in place of 256 shapes

    height = _FRAME + (_WIDTH - _FRAME) * min(1.0, max(0.5, len(values) / len(values[0])))
    return Panel(draw(paint, _WIDTH, height))


def _name(ruled: Any, label: str, names: Sequence[str]) -> None:
    step = -(-len(names) // _MOST_NAMES)
    ruled.set_ticks(range(0, len(names), step), [fitted(n, _LONGEST_NAME) for n in names[::step]])
    ruled.set_label_text(fitted(label, _LONGEST_LABEL))


def _write(axes: Any, values: Sequence[Sequence[float]], image: Any) -> None:
    """Each value in its cell, in the colour that is read on the cell's."""
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value == value:  # not nan
                dark = image.norm(value) < _DARK_HALF
                colour = "#ffffff" if dark else "#000000"
                text = short(float(f"{value:.3g}"))
                axes.text(column, row, text, ha="center", va="center", size=8, color=colour)
