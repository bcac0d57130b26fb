"""Dots and bars of named things."""

from __future__ import annotations

import math

import pytest

from lorakit.pages.figures import Axis, Point, Series, bars, dots, stacked_bars
from tests.pages.figures.shapes import fillings, marks, texts

NAMES = ("full", "lora", "a method whose words go on and on")


def series(name: str, names: tuple[str, ...], **looks: bool) -> Series:
    return Series(name, [Point(one, 0.8 + at / 10) for at, one in enumerate(names)], **looks)


def test_names_stand_in_their_order_and_long_ones_are_cut() -> None:
    shown = texts(dots([series("ours", NAMES)], Axis("accuracy"), "MRPC"))
    assert shown[-4:] == ["full", "lora", "a method whose word…", "MRPC"]


def test_what_is_not_finite_keeps_its_name_without_a_mark() -> None:
    one = Series("ours", [Point("full", 0.9), Point("lora", math.nan), Point("head", math.inf)])
    for drawn in (dots([one], Axis("F1")), bars([one], Axis("F1"))):
        assert {"full", "lora", "head"} <= set(texts(drawn))
    assert marks(dots([one], Axis("F1")), "series-0") == 1


def test_names_in_any_script_and_with_any_letter_are_drawn() -> None:
    names = ("日本語", "a\nb\x00\ud800", "W" * 300)
    shown = texts(dots([series("ours", names)], Axis(names[2]), names[1]))
    assert shown[-4:-2] == ["日本語", "a b  "]
    assert shown[-1] == "a b  "


@pytest.mark.parametrize("values", [[], [Series("ours", [])]], ids=["no series", "no points"])
def test_nothing_to_draw_is_an_empty_frame(values: list[Series]) -> None:
    assert "F1" in texts(dots(values, Axis("F1")))
    assert "F1" in texts(bars(values, Axis("F1")))


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


def test_stacked_bars_begin_where_those_before_end_and_say_their_sum() -> None:
    kinds = [
        Series("weights", [Point("full", 2.0), Point("lora", 3.0)]),
        Series("state", [Point("full", 4.0)]),
    ]
    drawn = stacked_bars(kinds, Axis("GB"), form="{:.1f} GB".format)
    assert {"6.0 GB", "3.0 GB"} <= set(texts(drawn))
    weights, _, state = fillings(drawn)
    assert max(x for x, _ in weights) == min(x for x, _ in state)
    assert {round(y, 3) for _, y in weights} == {round(y, 3) for _, y in state}
    assert [key.name for key in drawn.keys] == ["weights", "state"]
