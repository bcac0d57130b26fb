"""Labels that are numbers of places: of a choice, or of a class."""

from __future__ import annotations

import pytest

from lorakit.errors import FormatError
from lorakit.tables.cells import is_place
from lorakit.tasks.nlg import dart, webnlg


@pytest.mark.parametrize(
    ("name", "expected"),
    [("0", True), ("2", True), ("3", False), ("-1", False), ("", False), ("x", False), ("²", False),
     ("9" * 5000, False)],
)  # fmt: skip
def test_place_is_a_small_number(name: str, expected: bool) -> None:
    assert is_place(name, 3) is expected


@pytest.mark.parametrize("parse", [dart.parse_json, webnlg.parse_json])
def test_corpus_that_is_nested_without_end_is_refused(parse) -> None:
    with pytest.raises(FormatError, match="it is not"):
        list(parse("[" * 100_000))
