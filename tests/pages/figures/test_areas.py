"""Areas on top of one another."""

from __future__ import annotations

from lorakit.pages.figures import Axis, Point, Series, areas
from tests.pages.figures.shapes import fillings, texts

X, Y = Axis("step, %"), Axis("GB")


def series(*heights: tuple[float, ...]) -> list[Series]:
    return [
        Series(f"kind {at}", [Point(x, height) for x, height in enumerate(values)])
        for at, values in enumerate(heights)
    ]


def test_areas_lie_on_those_before_them() -> None:
    lower, upper = fillings(areas(series((1, 1, 1), (0, 2, 0)), X, Y))
    heights = sorted({y for _, y in lower})  # SVG counts them downwards
    assert len(heights) == 2
    assert max(y for _, y in upper) == heights[0]
    assert min(y for _, y in upper) < heights[0]


def test_areas_name_their_spans_and_the_peak() -> None:
    drawn = areas(series((1, 3, 1)), X, Y, "lora", [("forward", 0), ("backward", 1)], (1, "3 GB"))
    assert {"forward", "backward", "3 GB", "lora", "GB"} <= set(texts(drawn))


def test_areas_of_nothing_are_an_empty_frame() -> None:
    assert "GB" in texts(areas([Series("kind", [])], X, Y))


def test_a_seventh_area_is_told_from_the_first_by_its_hatch() -> None:
    drawn = areas(series(*[(1, 1)] * 7), X, Y)
    assert drawn.svg.count("<pattern") == 1
    assert len({(key.colour, key.glyph) for key in drawn.keys}) == 7
