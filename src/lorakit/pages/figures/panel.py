"""A drawing as a value: its SVG, and what its marks mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.pages.figures.palette import GLYPHS, colour_number, mark_number
from lorakit.pages.figures.series import Series


@dataclass(frozen=True)
class Key:
    """A series in a legend."""

    name: str
    glyph: str
    colour: int


@dataclass(frozen=True)
class Panel:
    """One drawing."""

    svg: str
    """A whole SVG document."""
    keys: tuple[Key, ...] = ()


def keys_of(series: Sequence[Series]) -> tuple[Key, ...]:
    """The legend of those that have points; one alone needs none."""
    if len(series) == 1:
        return ()
    return tuple(
        Key(one.name, _glyph(at, one.hollow), colour_number(at))
        for at, one in enumerate(series)
        if one.points
    )


def _glyph(at: int, hollow: bool) -> str:
    return _HOLLOW[mark_number(at)] if hollow else GLYPHS[mark_number(at)]


_HOLLOW = ("○", "□", "△", "◇", "▽", "✛", "✕", "☆")
