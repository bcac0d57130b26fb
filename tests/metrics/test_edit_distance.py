"""The two distances against Levenshtein's recursion, and the steps against the texts."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from lorakit.metrics.edit_distance import BEAM, Distance, Step, align

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
    assert Distance(reference)(text) == slow_distance(text, reference)


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


def test_the_beam_drops_a_path_that_begins_with_too_many_edits():
    """All of the text stands at the end of the reference, behind more words than the beam."""
    text = [str(place) for place in range(40)]
    assert align(text, ["x"] * (BEAM + 5) + text)[0] > slow_distance(
        text, ["x"] * (BEAM + 5) + text
    )
