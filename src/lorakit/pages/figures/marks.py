"""How a series looks, and how an axis is ruled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lorakit.pages.figures.palette import MARKS, PAPER, SERIES, colour_number, mark_number
from lorakit.pages.figures.series import Axis

_MOST_TICKS = 12
_LONGEST_LABEL = 150  # points
_MOST_LETTERS = 100


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


def filling_of(at: int) -> dict[str, Any]:
    """matplotlib's words for an area of the series at this place, hatched from the seventh on."""
    bare = {"facecolor": SERIES[colour_number(at)], "edgecolor": PAPER, "linewidth": 0}
    return bare if at < len(SERIES) else {**bare, "hatch": "xx"}


def set_axis(ruled: Any, axis: Axis, ticks: Sequence[float] = ()) -> None:
    """Label and scale matplotlib's axis; a few `ticks` on a logarithmic one replace its own."""
    ruled.set_label_text(fitted(axis.label, _LONGEST_LABEL))
    if axis.log:
        _set_scale(ruled, ticks)
    else:
        ruled.get_major_formatter().set_useOffset(False)
        ruled.get_major_formatter().set_scientific(False)
    if ends := [end for end in (axis.low, axis.high) if end is not None]:
        is_x = ruled.axis_name == "x"
        # As values they leave room between the others and the frame.
        ruled.axes.update_datalim([(end, end) for end in ends], updatex=is_x, updatey=not is_x)
        ruled.axes.autoscale_view()
        _limits(ruled)(axis.low, axis.high)


def _set_scale(ruled: Any, ticks: Sequence[float]) -> None:
    """Make the axis logarithmic."""
    from matplotlib import ticker

    axes = ruled.axes
    (axes.set_xscale if ruled.axis_name == "x" else axes.set_yscale)("log")
    if math.isinf(ruled.get_minpos()):  # there are no values
        _limits(ruled)(1, 10)
    own = ticker.LogLocator(subs=(1, 2, 5) if _decades(ruled) < 2 else (1,))
    ruled.set_major_locator(ticker.FixedLocator(ticks) if 0 < len(ticks) <= _MOST_TICKS else own)
    ruled.set_minor_locator(ticker.NullLocator())
    ruled.set_major_formatter(ticker.FuncFormatter(lambda value, _: short(value)))


def _limits(ruled: Any) -> Callable[..., Any]:
    """What sets the ends of the axis."""
    axes = ruled.axes
    return axes.set_xlim if ruled.axis_name == "x" else axes.set_ylim  # type: ignore[no-any-return]


def set_title(axes: Any, title: str) -> None:
    """Write the title above matplotlib's axes, from their left."""
    axes.set_title(fitted(title, _LONGEST_LABEL))


def fitted(text: str, width: float) -> str:
    """The text in a line, cut where it is wider than this many points; tables have it whole."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties()
    letters = "".join(letter if letter.isprintable() else " " for letter in text[:_MOST_LETTERS])
    for length in range(len(letters), 0, -1):
        shown = letters[:length] + "…" * (length < len(text))
        if text_to_path.get_text_width_height_descent(shown, font, ismath=False)[0] <= width:
            return shown
    return ""


def _decades(ruled: Any) -> float:
    """How many powers of ten lie between the ends of the values that a logarithmic axis has."""
    low, high = ruled.get_minpos(), ruled.get_data_interval()[1]
    return math.log10(high / low) if math.isfinite(low) else 0.0


def short(value: float) -> str:
    """A number for a tick.

    >>> short(0.85), short(512), short(25_200_000), short(-0.5), short(1e-5), short(0)
    ('0.85', '512', '25.2M', '-0.5', '1e-05', '0')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"
