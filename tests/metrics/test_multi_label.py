"""F1 over labels, against the formulas by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.metrics.multi_label import multi_label_metrics

BIT = st.integers(0, 1)
ROWS = st.lists(st.tuples(st.tuples(BIT, BIT, BIT), st.tuples(BIT, BIT, BIT)), min_size=1)


@given(ROWS)
def test_f1_micro_and_macro_equal_their_definitions(rows) -> None:
    decisions = [[(row[0][i], row[1][i]) for row in rows] for i in range(3)]
    scores = multi_label_metrics(*map(list, zip(*rows, strict=True)))
    assert scores["f1_micro"] == pytest.approx(f1([pair for label in decisions for pair in label]))
    assert scores["f1_macro"] == pytest.approx(sum(map(f1, decisions)) / 3)


def f1(pairs: list[tuple[int, int]]) -> float:
    total = sum(p + y for p, y in pairs)
    return 2 * sum(p * y for p, y in pairs) / total if total else 0.0
