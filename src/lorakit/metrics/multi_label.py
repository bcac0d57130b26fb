"""F1 of predictions with any number of labels, as scikit-learn computes it."""

from __future__ import annotations

from collections.abc import Sequence


def multi_label_metrics(
    predicted: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> dict[str, float]:
    """f1_micro, over all decisions, and f1_macro, the mean over the labels; of rows of 0 and 1.

    A label that neither occurs nor is predicted has an F1 of 0.
    Source: scikit-learn's `f1_score`.

    >>> multi_label_metrics([[1, 0], [1, 1]], [[1, 0], [0, 1]])["f1_micro"]
    0.8
    """
    from sklearn.metrics import f1_score

    return {
        f"f1_{average}": float(f1_score(labels, predicted, average=average, zero_division=0))
        for average in ("micro", "macro")
    }
