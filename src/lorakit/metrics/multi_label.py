"""F1 of predictions with any number of labels, as scikit-learn has it, and what maximises it."""

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


def best_threshold(probabilities: Sequence[float], labels: Sequence[int]) -> float:
    """The t for which "probability > t" has the highest F1; 0.5 if that is as good.

    All t between two neighbouring probabilities decide the same: the middle is taken, and of
    several such stretches the nearest to 0.5. Sources: Lipton, Elkan and Naryanaswamy 2014, arXiv
    1402.1892; scikit-learn's `precision_recall_curve`.

    >>> best_threshold([0.1, 0.2, 0.3, 0.6], [0, 0, 1, 1])
    0.25
    >>> best_threshold([0.1, 0.4, 0.8], [0, 0, 1])
    0.5
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, scores = precision_recall_curve(labels, probabilities)
    f1 = [2 * p * r / max(p + r, 1e-300) for p, r in zip(precision[:-1], recall[:-1], strict=True)]
    stretches = zip([0.0, *scores[:-1].tolist()], scores.tolist(), f1, strict=True)
    best = max(f1) - 1e-12  # what rounding makes of equal ones
    middles = [
        0.5 if low <= 0.5 < high else (low + high) / 2
        for low, high, value in stretches
        if value >= best
    ]
    return min(middles, key=lambda t: abs(t - 0.5))
