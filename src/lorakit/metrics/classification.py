"""Accuracy, macro-averaged F1 and Matthews' correlation, as scikit-learn computes them."""

from __future__ import annotations

from collections.abc import Sequence


def classification_metrics(predicted: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """accuracy, f1 (macro average over the classes that occur) and matthews_correlation.

    Source: scikit-learn's `accuracy_score`, `f1_score` and `matthews_corrcoef`.

    >>> classification_metrics([0, 1, 1, 1], [0, 0, 1, 1])["accuracy"]
    0.75
    """
    from sklearn import metrics

    one_class = len({*predicted, *labels}) == 1  # scikit-learn warns, and says 0
    return {
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "matthews_correlation": 0.0
        if one_class
        else float(metrics.matthews_corrcoef(labels, predicted)),
    }
