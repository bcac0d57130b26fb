"""Dots and bars of named things."""

from __future__ import annotations

from lorakit.pages.figures import Axis, Point, Series, bars, dots
from tests.pages.figures.shapes import marks, texts

NAMES = ("full", "lora", "an architecture's name that is far too long to be drawn")


def series(name: str, names: tuple[str, ...], **looks: bool) -> Series:
    return Series(name, [Point(one, 0.8 + at / 10) for at, one in enumerate(names)], **looks)


def test_names_stand_in_their_order_and_long_ones_are_cut() -> None:
    shown = texts(dots([series("ours", NAMES)], Axis("accuracy"), "MRPC"))
    assert shown[-4:] == ["full", "lora", "an architecture's name …", "MRPC"]


def test_published_figures_stand_hollow_beside_ours() -> None:
    drawn = dots([series("ours", NAMES), series("published", NAMES[1:2], hollow=True)], Axis("F1"))
    assert marks(drawn, "series-0") == 3
    assert marks(drawn, "series-1") == 1
    assert [(key.name, key.glyph) for key in drawn.keys] == [("ours", "●"), ("published", "□")]


def test_samples_are_drawn_small() -> None:
    point = Point("lora", 0.8, 0.7, 0.9, samples=(0.75, 0.8, 0.85))
    assert marks(dots([Series("ours", [point])], Axis("F1")), "muted") == 3


def test_bars_say_their_values() -> None:
    shown = texts(bars([series("ours", NAMES)], Axis("seconds"), form="{:.2f} s".format))
    assert {"0.80 s", "0.90 s", "1.00 s"} <= set(shown)
