"""TER against tercom's official scores, and against the search without its shortcuts."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

import lorakit.metrics.ter
from lorakit.metrics.edit_distance import align
from lorakit.metrics.ter import count_edits, ter

MANY_WORDS = st.lists(st.sampled_from("abcdefghijkl"), max_size=60)  # more edits than the beam


def table_distance(text: list[str], reference: list[str]) -> int:
    """The distance as tercom finds it, from a table for every shift."""
    return align(text, reference)[0]


@given(MANY_WORDS, MANY_WORDS)
def test_edits_are_those_of_a_table_for_every_shift(text, reference):
    edits = count_edits(text, reference)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lorakit.metrics.ter, "distance", table_distance)
        assert count_edits(text, reference) == edits


PREDECESSOR = "juan carlos i of spain was preceded by francisco franco ."


@pytest.mark.parametrize(
    ("text", "reference", "edits"),
    [
        ("a b c d", "a b c d", 0),
        ("c d a b", "a b c d", 1),  # one shift
        ("a x c", "a b c", 1),
        ("", "a b c", 3),
        ("a b c", "a", 2),
        ("", "", 0),
        ("a", "", 1),
        # tercom's counts, of which a search that takes other shifts among equals finds 5.
        (PREDECESSOR, "francisco franco was the predecessor of juan carlos i of spain .", 6),
        (PREDECESSOR, "the predecessor of juan carlos i f spain was francisco franco .", 6),
    ],
)
def test_edits_by_hand(text, reference, edits):
    assert count_edits(text.split(), reference.split()) == edits


def test_of_references_the_fewest_edits_count_over_the_average_length():
    assert ter(["A b"], [["a b", "a b c d", " "]]) == 0
    assert ter(["a x"], [["a b", "a b c d"]]) == 1 / 3


def test_texts_are_sums_not_means():
    assert ter(["x", "a b c"], [["y"], ["a b c"]]) == 1 / 4


def test_an_empty_text_costs_its_reference():
    assert ter([""], [["a b c"]]) == 1


@pytest.mark.slow
def test_tercoms_score_of_webnlg_2017(official):
    names = [f"ref{i}_all-cat" for i in range(3)]
    score = ter(*official.files("webnlg2017", "hyp_bart-large_all-cat", names))
    assert score == 0.3773335129206668
