"""Inputs of data to text that are nested or go on without an end are refused in no time."""

from __future__ import annotations

import time

import pytest

from lorakit.errors import FormatError
from lorakit.tasks.nlg import dart, e2e, webnlg

SPACES = " " * 200_000


@pytest.mark.parametrize("parse", [dart.parse_json, webnlg.parse_json])
def test_corpus_that_is_nested_without_end_is_refused(parse) -> None:
    with pytest.raises(FormatError, match="it is not"):
        list(parse("[" * 100_000))


@pytest.mark.parametrize(
    "cell", [SPACES, f"name{SPACES}", f"a[b]{SPACES}c"], ids=["none", "name", "end"]
)
def test_meaning_of_any_length_is_refused(cell: str) -> None:
    start = time.process_time()
    with pytest.raises(FormatError, match="is not a meaning representation"):
        e2e.linearise(cell)
    assert time.process_time() - start < 5
