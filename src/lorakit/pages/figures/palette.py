"""Colours and marks of series: told apart by the colour-blind, seen on light and on dark.

A drawing has the light colours; on a page each is a variable, which a dark scheme sets anew.
"""

from __future__ import annotations

INK, MUTED, RULE, PAPER = "#1c1e21", "#5c6168", "#d5d8dc", "#fffefd"
_DARK_INK, _DARK_MUTED, _DARK_RULE, _DARK_PAPER = "#e8e6e3", "#a4a9b0", "#3a3f45", "#15171a"

SERIES = ("#0c59c7", "#cb6f03", "#009362", "#c86ab2", "#606627", "#31535d")
_DARK_SERIES = ("#4acaf6", "#e76464", "#58ee78", "#cd89ae", "#e99322", "#d6ebef")

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""matplotlib's names."""
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
"""The same as letters, for legends."""

LIGHT = {
    "ink": INK,
    "muted": MUTED,
    "rule": RULE,
    "paper": PAPER,
    **{f"series-{at}": colour for at, colour in enumerate(SERIES)},
}
"""Each variable's colour in the light scheme, which drawings have; no two are alike."""
DARK = {
    "ink": _DARK_INK,
    "muted": _DARK_MUTED,
    "rule": _DARK_RULE,
    "paper": _DARK_PAPER,
    **{f"series-{at}": colour for at, colour in enumerate(_DARK_SERIES)},
}


def colour_number(series: int) -> int:
    """Which colour the series at this place has."""
    return series % len(SERIES)


def mark_number(series: int) -> int:
    """Which mark it has: series of one colour differ in it.

    >>> colour_number(0) == colour_number(6), mark_number(0) == mark_number(6)
    (True, False)
    """
    return series % len(MARKS)
