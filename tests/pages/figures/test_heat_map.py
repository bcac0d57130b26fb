"""Matrices as colours."""

from __future__ import annotations

import math

from lorakit.pages.figures import heat_map
from tests.pages.figures.shapes import texts


def names(count: int) -> list[str]:
    return [str(at + 1) for at in range(count)]


def test_sides_are_named_as_far_as_there_is_room() -> None:
    values = [[i / (j + 1) for j in range(64)] for i in range(8)]
    shown = texts(heat_map(values, ("i", names(8)), ("j", names(64)), (0, 1), "phi"))
    columns, rest = shown[: shown.index("j")], shown[shown.index("j") + 1 :]
    assert columns == [str(at) for at in range(1, 65, 8)]
    assert rest[: rest.index("i")] == names(8)
    assert {"phi", "0.0", "1.0"} <= set(rest)


def test_few_columns_have_their_values_and_what_is_no_number_is_blank() -> None:
    values = [[1.2345, math.nan], [20.0, 0.5]]
    shown = texts(heat_map(values, ("batch", ["1", "4"]), ("length", ["64", "128"])))
    assert [text for text in shown if text in ("1.23", "20", "0.5", "nan")] == ["1.23", "20", "0.5"]


def test_a_large_matrix_stays_small() -> None:
    values = [[math.sin(i * j) for j in range(64)] for i in range(64)]
    assert len(heat_map(values, ("i", names(64)), ("j", names(64))).svg) < 40_000


def test_values_of_many_rows_are_not_written_over_each_other() -> None:
    values = [[0.123] * 8 for _ in range(64)]
    assert "0.123" not in texts(heat_map(values, ("i", names(64)), ("j", names(8))))
