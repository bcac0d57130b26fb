"""Entities and their numbers, beside seqeval's own functions and beside the entities written."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval import metrics as seqeval

from lorakit.errors import MissingDependencyError
from lorakit.metrics.entities import entities, entity_metrics, mark_entities, tag_accuracy

Entity = tuple[str, int, int]
TAGS = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("PER", "LOC-2"))]


@st.composite
def written(draw: st.DrawFn) -> tuple[int, list[Entity]]:
    """The number of words, and entities among them in order."""
    found, at = [], 0
    for gap, size, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("AB")))
    ):
        found.append((kind, at + gap, at + gap + size - 1))
        at += gap + size
    return at + draw(st.integers(0 if at else 1, 2)), found


def tagged(words: int, found: list[Entity], first: str, inside: str, last: str, alone: str) -> Any:
    """The words' tags in the scheme that marks an entity's words so."""
    tags = ["O"] * words
    for kind, start, stop in found:
        marks = [first, *[inside] * (stop - start - 1), last] if stop > start else [alone]
        tags[start : stop + 1] = [f"{mark}-{kind}" for mark in marks]
    return tags


@given(written())
def test_entities_of_each_scheme_are_those_that_were_written(case) -> None:
    for marks in ("BIIB", "BIES", "BILU"):
        assert entities(tagged(*case, *marks)) == case[1], marks


@given(written())
def test_iob1_has_the_entities_that_do_not_touch_one_of_their_type(case) -> None:
    words, found = case
    apart = [e for i, e in enumerate(found) if not i or found[i - 1][0] != e[0]]
    assert entities(tagged(words, apart, *"IIII")) == apart


@given(st.lists(st.lists(st.tuples(*[st.sampled_from(TAGS)] * 2), min_size=1), min_size=1))
def test_the_numbers_are_seqevals(rows) -> None:
    predicted, labels = ([[pair[i] for pair in row] for row in rows] for i in range(2))
    found = entity_metrics(predicted, labels)
    for name in ("f1", "precision", "recall"):
        theirs = getattr(seqeval, f"{name}_score")(labels, predicted, zero_division=0)
        assert found[f"overall_{name}"] == theirs
    assert found["accuracy"] == seqeval.accuracy_score(labels, predicted)
    if any(tag != "O" for row in labels for tag in row):
        report = seqeval.classification_report(labels, predicted, output_dict=True, zero_division=0)
        for kind in ("PER", "LOC-2"):
            if kind in report:
                assert found[f"recall_{kind}"] == report[kind]["recall"]
                assert found[f"f1_{kind}"] == report[kind]["f1-score"]


def test_a_type_that_is_only_predicted_counts_and_one_without_a_name_is_overall_alone() -> None:
    found = entity_metrics([["B-X", "O"]], [["O", "O"]])
    assert (found["precision_X"], found["overall_f1"], found["accuracy"]) == (0.0, 0.0, 0.5)
    assert [*entity_metrics([["B", "I", "O"]], [["B", "I", "O"]])] == [
        "overall_f1", "overall_precision", "overall_recall", "accuracy",
    ]  # fmt: skip


@pytest.mark.parametrize("tags", [["NOUN", "O"], ["O"], [], ["B-PER", "X"], ["0", "1"]])
def test_other_tags_mark_no_entities(tags) -> None:
    assert not mark_entities(tags)


def test_accuracy_is_of_words_not_of_sentences() -> None:
    assert tag_accuracy([["A", "A", "A"], ["B"]], [["A", "A", "A"], ["A"]]) == {"accuracy": 0.75}


def test_without_seqeval_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "seqeval.metrics.sequence_labeling", None)
    with pytest.raises(MissingDependencyError, match=r"package seqeval: .*lorakit\[train\]"):
        entities(["O"])
