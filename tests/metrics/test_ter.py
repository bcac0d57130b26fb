"""TER against tercom's official score, and against sacrebleu's search, which is slow."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from sacrebleu.metrics.lib_ter import translation_edit_rate

from lorakit.metrics.ter import Distance, count_edits, ter

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


def slow_distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (word != other))
    return row[-1]


@given(WORDS, WORDS)
def test_distance_is_levenshteins(text, reference):
    assert Distance(reference)(text) == slow_distance(text, reference)


@given(WORDS, WORDS.filter(bool))
def test_edits_are_sacrebleus(text, reference):
    assert count_edits(text, reference) == translation_edit_rate(text, reference)[0]


@pytest.mark.parametrize(
    ("text", "reference", "edits"),
    [
        ("a b c d", "a b c d", 0),
        ("c d a b", "a b c d", 1),  # one shift
        ("a x c", "a b c", 1),
        ("", "a b c", 3),
        ("a b c", "a", 2),
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


def test_edits_are_sacrebleus_on_real_texts(official):
    texts, references = official.files("webnlg2017", "hyp_bart-large_all-cat", ["ref0_all-cat"])
    for text, (reference,) in list(zip(texts, references, strict=True))[::60]:
        words, truth = text.split(), reference.split()
        assert count_edits(words, truth) == translation_edit_rate(words, truth)[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tercoms_score_of_webnlg_2017(official):
    names = [f"ref{i}_all-cat" for i in range(3)]
    assert round(ter(*official.files("webnlg2017", "hyp_bart-large_all-cat", names)), 4) == 0.3773
