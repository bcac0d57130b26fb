"""Colours are seen on both schemes, and told apart by those who see fewer of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lorakit.pages.figures.palette import DARK, GLYPHS, LIGHT, MARKS

SCHEMES = pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB: doi.org/10.1109/TVCG.2009.113
KINDS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
NOTICEABLE = 20.0
"""A distance in CIELAB that is seen in small marks; 2.3 is seen in large fields side by side."""


def linear(colour: str) -> np.ndarray:
    """Red, green and blue from 0 to 1, without gamma."""
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(XYZ @ rgb.clip(0, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of luminances."""
    dark, bright = sorted(float(XYZ[1] @ linear(colour)) for colour in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def series_of(scheme: dict[str, str]) -> list[str]:
    return [colour for name, colour in scheme.items() if name.startswith("series")]


@SCHEMES
def test_series_and_letters_stand_out(scheme: dict[str, str]) -> None:
    assert min(contrast(colour, scheme["paper"]) for colour in series_of(scheme)) >= 3
    assert contrast(scheme["ink"], scheme["paper"]) >= 7
    assert contrast(scheme["muted"], scheme["paper"]) >= 4.5


@SCHEMES
@pytest.mark.parametrize("kind", KINDS)
def test_colour_blind_tell_series_apart(scheme: dict[str, str], kind: str) -> None:
    seen = [lab(np.array(KINDS[kind]) @ linear(colour)) for colour in series_of(scheme)]
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert nearest >= NOTICEABLE


def test_no_two_variables_share_a_colour_in_drawings() -> None:
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert LIGHT.keys() == DARK.keys()


def test_each_mark_has_its_letter() -> None:
    assert len(set(MARKS)) == len(MARKS) == len(set(GLYPHS)) == len(GLYPHS)
