"""Mean squared error as scikit-learn computes it, Pearson's and Spearman's r as scipy does."""

from __future__ import annotations

import math
from collections.abc import Sequence

NAMES = ("mse", "pearson", "spearman")


def regression_metrics(predicted: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
    """mse, pearson and spearman of `predicted` and `labels`; NaN if a prediction is not finite.

    A correlation with a constant, which scipy leaves undefined, is 0.
    Source: scikit-learn's `mean_squared_error`, scipy's `pearsonr` and `spearmanr`.

    >>> round(regression_metrics([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])["pearson"], 6)
    1.0
    """
    from scipy import stats
    from sklearn.metrics import mean_squared_error

    if not all(map(math.isfinite, predicted)):
        return dict.fromkeys(NAMES, math.nan)
    constant = len(set(predicted)) < 2 or len(set(labels)) < 2
    return {
        "mse": float(mean_squared_error(labels, predicted)),
        "pearson": 0.0 if constant else float(stats.pearsonr(predicted, labels).statistic),
        "spearman": 0.0 if constant else float(stats.spearmanr(predicted, labels).statistic),
    }
