"""The numbers of scikit-learn and scipy, against the formulas by hand."""

from __future__ import annotations

import math

import pytest

from lorakit.metrics import regression_metrics

PREDICTED, LABELS = [1.0, 4.0, 2.0, 8.0], [2.0, 3.0, 2.5, 10.0]


def test_mse_is_the_mean_of_the_squares() -> None:
    assert regression_metrics(PREDICTED, LABELS)["mse"] == pytest.approx((1 + 1 + 0.25 + 4) / 4)


def test_pearson_is_the_covariance_over_the_deviations() -> None:
    p = [x - sum(PREDICTED) / 4 for x in PREDICTED]
    t = [x - sum(LABELS) / 4 for x in LABELS]
    norm = math.sqrt(sum(x * x for x in p) * sum(x * x for x in t))
    expected = sum(a * b for a, b in zip(p, t, strict=True)) / norm
    assert regression_metrics(PREDICTED, LABELS)["pearson"] == pytest.approx(expected)


def test_spearman_sees_the_order_alone() -> None:
    scores = regression_metrics([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0])
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] < 0.9


@pytest.mark.parametrize(("predicted", "labels"), [([1, 1], [1, 2]), ([1, 2], [1, 1]), ([1], [2])])
def test_a_correlation_with_a_constant_is_zero(predicted, labels) -> None:
    scores = regression_metrics(predicted, labels)
    assert (scores["pearson"], scores["spearman"]) == (0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_makes_no_score(value) -> None:
    scores = regression_metrics([value, 1.0], [1.0, 2.0])
    assert all(math.isnan(score) for score in scores.values())
