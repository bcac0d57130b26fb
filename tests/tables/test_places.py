"""Labels that are numbers of places: of a choice, or of a class."""

from __future__ import annotations

import pytest

from lorakit.tables.cells import is_place


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0", True), ("2", True), ("3", False), ("-1", False), ("", False), ("x", False), ("²", False),
     ("9" * 5000, False)],
    ids=lambda value: str(value)[:9],
)  # fmt: skip
def test_place_is_a_small_number(name: str, expected: bool) -> None:
    assert is_place(name, 3) is expected
