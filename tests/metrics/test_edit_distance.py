"""The two distances against Levenshtein's recursion, and the steps against the whole table's."""

from __future__ import annotations

import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lorakit.errors import MissingDependencyError
from lorakit.metrics import edit_distance
from lorakit.metrics.edit_distance import BEAM, Step, align, distance

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)
MANY_WORDS = st.lists(st.sampled_from("abcdefghijkl"), max_size=60)  # more edits than the beam


def slow_distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1]


@given(WORDS | MANY_WORDS, WORDS | MANY_WORDS)
def test_distance_is_levenshteins(text, reference):
    assert distance(text, reference) == slow_distance(text, reference)


@given(WORDS | MANY_WORDS, WORDS | MANY_WORDS)
def test_aligned_edits_are_levenshteins_within_the_beam(text, reference):
    exact, edits = slow_distance(text, reference), align(text, reference)[0]
    assert edits == exact if exact <= BEAM else edits >= exact


@given(WORDS | MANY_WORDS, WORDS | MANY_WORDS)
def test_steps_lead_from_the_text_to_the_reference(text, reference):
    edits, steps = align(text, reference)
    left, wanted = iter(text), iter(reference)
    for step in steps:
        word = next(left) if step != Step.INSERT else None
        other = next(wanted) if step != Step.DELETE else None
        assert (word == other) == (step == Step.SAME)
    assert [*left, *wanted] == []
    assert edits == sum(step != Step.SAME for step in steps)


@given(WORDS, WORDS)
def test_steps_are_those_of_the_table_without_a_limit(text, reference):
    found = align(text, reference)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_distance, "distance", lambda text, reference: BEAM + 1)
        assert align(text, reference) == found


def test_without_rapidfuzz_the_error_names_the_extra(monkeypatch):
    edit_distance._levenshtein.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance.Levenshtein", None)
    with pytest.raises(MissingDependencyError, match=r"rapidfuzz.*lorakit\[nlg\]"):
        distance(["a"], ["b"])


def test_the_beam_drops_a_path_that_begins_with_too_many_edits():
    """All of the text stands at the end of the reference, behind more words than the beam."""
    text = [str(place) for place in range(40)]
    assert align(text, ["x"] * (BEAM + 5) + text)[0] > slow_distance(
        text, ["x"] * (BEAM + 5) + text
    )
