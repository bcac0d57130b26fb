"""The numbers of scikit-learn, against the formulas by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.metrics import classification_metrics

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


@given(PAIRS)
def test_accuracy_and_f1_equal_their_definitions(pairs) -> None:
    predicted, labels = [p for p, _ in pairs], [t for _, t in pairs]
    scores = classification_metrics(predicted, labels)
    assert scores["accuracy"] == pytest.approx(sum(p == t for p, t in pairs) / len(pairs))
    classes = {*predicted, *labels}
    f1 = [
        2 * sum(p == t == k for p, t in pairs) / (predicted.count(k) + labels.count(k))
        for k in classes
    ]
    assert scores["f1"] == pytest.approx(sum(f1) / len(classes))


def test_matthews_correlation_equals_the_binary_formula() -> None:
    predicted = [1] * 6 + [0] * 4 + [1] * 3 + [0] * 7
    labels = [1] * 10 + [0] * 10
    tp, fn, fp, tn = 6, 4, 3, 7
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    scores = classification_metrics(predicted, labels)
    assert scores["matthews_correlation"] == pytest.approx(expected)


@pytest.mark.parametrize(("predicted", "expected"), [([0, 1], 1.0), ([1, 0], -1.0), ([0, 0], 0.0)])
def test_matthews_correlation_has_the_right_ends(predicted, expected) -> None:
    scores = classification_metrics(predicted, [0, 1])
    assert scores["matthews_correlation"] == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_binary_f1_is_that_of_class_one(pairs) -> None:
    predicted, labels = [p for p, _ in pairs], [t for _, t in pairs]
    hits, named = sum(p == t == 1 for p, t in pairs), sum(predicted) + sum(labels)
    scores = classification_metrics(predicted, labels, ["f1_binary"])
    assert scores == {"f1_binary": pytest.approx(2 * hits / named if named else 0.0)}
