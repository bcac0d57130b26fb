"""How a series looks, and how an axis is ruled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lorakit.pages.figures.palette import MARKS, PAPER, SERIES, colour_number, mark_number
from lorakit.pages.figures.series import Axis

_MOST_TICKS = 12


def style_of(at: int, hollow: bool = False) -> dict[str, Any]:
    """matplotlib's words for the series at this place among the others."""
    colour = SERIES[colour_number(at)]
    return {
        "color": colour,
        "marker": MARKS[mark_number(at)],
        "markersize": 6,
        "markerfacecolor": PAPER if hollow else colour,
        "markeredgecolor": colour,
        "linewidth": 1.4,
        "elinewidth": 1.1,
        "capsize": 2.5,
    }


def set_axis(ruled: Any, axis: Axis, ticks: Sequence[float] = ()) -> None:
    """Label and scale matplotlib's axis; a few `ticks` on a logarithmic one replace its own."""
    from matplotlib import ticker

    ruled.set_label_text(axis.label)
    set_limits = ruled.axes.set_xlim if ruled.axis_name == "x" else ruled.axes.set_ylim
    if axis.log:
        set_scale = ruled.axes.set_xscale if ruled.axis_name == "x" else ruled.axes.set_yscale
        set_scale("log")
        own = ticker.LogLocator(subs=(1, 2, 5) if _decades(ruled) < 2 else (1,))
        few = 0 < len(ticks) <= _MOST_TICKS
        ruled.set_major_locator(ticker.FixedLocator(ticks) if few else own)
        ruled.set_minor_locator(ticker.NullLocator())
        ruled.set_major_formatter(ticker.FuncFormatter(lambda value, _: short(value)))
    else:
        ruled.get_major_formatter().set_useOffset(False)
        ruled.get_major_formatter().set_scientific(False)
    set_limits(axis.low, axis.high)


def _decades(ruled: Any) -> float:
    """How many powers of ten lie between the ends of the values."""
    low, high = ruled.get_data_interval()
    return math.log10(high / low)


def short(value: float) -> str:
    """A number for a tick.

    >>> short(0.85), short(512), short(25_200_000), short(-0.5), short(1e-5), short(0)
    ('0.85', '512', '25.2M', '-0.5', '1e-05', '0')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"
