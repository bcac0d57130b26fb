"""chrF++ against GenerationEval's official score, and at the edges."""

from __future__ import annotations

import pytest

from lorakit.metrics.chrf import chrf_plus_plus


@pytest.mark.slow
def test_the_score_of_generation_eval(official):
    names = [f"reference{i}" for i in range(4)]
    texts, references = official.files("webnlg2020", "hypothesis", names)
    assert chrf_plus_plus(texts, references) == pytest.approx(0.5434254230563398, abs=1e-12)


def test_edges():
    assert chrf_plus_plus([""], [["a pub"]]) == pytest.approx(0, abs=1e-12)
    assert chrf_plus_plus(["a cheap pub"], [["a cheap pub", ""]]) == pytest.approx(1)
    assert chrf_plus_plus(["a cheap pub"], [["x", "a cheap pub"]]) == pytest.approx(1)
    # Four letters have no 5-grams and 6-grams, and the script still divides by all eight orders.
    assert chrf_plus_plus(["a pub"], [["a pub"]]) == pytest.approx(6 / 8)
    assert chrf_plus_plus(["A pub"], [["a pub"]]) < 1
