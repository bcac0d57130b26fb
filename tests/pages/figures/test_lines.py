"""Lines and points over numbers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from lorakit.pages.figures import Axis, Point, Series, lines, scatter
from tests.pages.figures.shapes import marks, texts

RANKS = [Series("lora", [Point(rank, 0.8, 0.7, 0.9) for rank in (1, 2, 8, 64)])]
BOTH = [*RANKS, Series("absent", []), Series("full", [Point(1, 0.9)], hollow=True)]


def test_ranks_are_the_ticks_of_a_logarithmic_axis() -> None:
    drawn = lines(RANKS, Axis("rank", log=True), Axis("accuracy", low=0.5, high=1))
    shown = texts(drawn)
    assert shown[:4] == ["1", "2", "8", "64"]
    assert shown[4] == "rank"
    assert shown[5:] == ["0.5", "0.6", "0.7", "0.8", "0.9", "1.0", "accuracy"]


def test_parameters_are_read_in_thousands_and_millions() -> None:
    for last, ticks in ((25_000_000, ["100k", "1M", "10M"]), (180_000, ["50k", "100k"])):
        series = [Series("lora", [Point(30_000, 0.8), Point(last, 0.9)])]
        shown = texts(scatter(series, Axis("parameters", log=True), Axis("accuracy")))
        assert shown[: shown.index("parameters")] == ticks


def test_each_point_has_a_mark() -> None:
    assert marks(lines(RANKS, Axis("rank"), Axis("accuracy")), "series-0") == 4


def test_series_without_points_keeps_its_colour_and_is_not_named() -> None:
    drawn = scatter(BOTH, Axis("rank"), Axis("accuracy"))
    assert [(key.name, key.glyph, key.colour) for key in drawn.keys] == [
        ("lora", "●", 0),
        ("full", "△", 2),
    ]
    assert marks(drawn, "series-1") == 0
    assert marks(drawn, "series-2") == 1


def test_one_series_needs_no_legend() -> None:
    assert lines(RANKS, Axis("rank"), Axis("accuracy")).keys == ()


def test_what_has_no_place_on_a_logarithmic_axis_is_left_out() -> None:
    points = [Point(0, 0.5), Point(-1, 0.5), Point(2, math.nan), Point(4, 0.8, -0.1, 0.9)]
    x, y = Axis("rank", log=True), Axis("loss", log=True)
    assert marks(lines([Series("lora", points)], x, y), "series-0") == 1


def test_nothing_to_draw_is_an_empty_frame() -> None:
    drawn = lines([Series("lora", [])], Axis("rank", log=True), Axis("F1", log=True))
    assert {"rank", "F1"} <= set(texts(drawn))


def test_values_keep_clear_of_the_frame_where_one_end_is_set() -> None:
    points = [Point(layer, 4 + layer / 10) for layer in range(3)]
    drawn = ElementTree.fromstring(
        lines([Series("lora", points)], Axis("layer"), Axis("rank", low=0)).svg
    )
    (frame,) = drawn.iterfind(".//{*}clipPath/{*}rect")
    highest = min(
        float(use.attrib["y"])
        for use in drawn.iterfind(".//{*}use")
        if "series-0" in use.attrib["style"]
    )
    assert highest > float(frame.attrib["y"]) + 3
