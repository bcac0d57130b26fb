"""Accuracy, F1 and Matthews' correlation, as scikit-learn computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

DEFAULT = ("accuracy", "f1", "matthews_correlation")


def classification_metrics(
    predicted: Sequence[int], labels: Sequence[int], names: Sequence[str] = DEFAULT
) -> dict[str, float]:
    """Metrics of the classes `predicted` beside the right `labels`, both as numbers, by name.

    `names` may be: accuracy; f1, the macro average over the classes that occur; f1_binary, the F1
    of class 1 of two; matthews_correlation, which is 0 if only one class occurs. Source:
    scikit-learn's `accuracy_score`, `f1_score` and `matthews_corrcoef`.

    >>> classification_metrics([0, 1, 1, 1], [0, 0, 1, 1])["accuracy"]
    0.75
    >>> classification_metrics([0, 1, 1, 1], [0, 0, 1, 1], ["f1_binary"])
    {'f1_binary': 0.8}
    """
    return {name: _METRICS[name](predicted, labels) for name in names}


def _accuracy(predicted: Sequence[int], labels: Sequence[int]) -> float:
    from sklearn import metrics

    return float(metrics.accuracy_score(labels, predicted))


def _f1(average: str) -> Callable[[Sequence[int], Sequence[int]], float]:
    def f1(predicted: Sequence[int], labels: Sequence[int]) -> float:
        from sklearn import metrics

        return float(metrics.f1_score(labels, predicted, average=average, zero_division=0))

    return f1


def _matthews(predicted: Sequence[int], labels: Sequence[int]) -> float:
    from sklearn import metrics

    if len({*predicted, *labels}) == 1:  # scikit-learn warns, and says 0
        return 0.0
    return float(metrics.matthews_corrcoef(labels, predicted))


_METRICS = {
    "accuracy": _accuracy,
    "f1": _f1("macro"),
    "f1_binary": _f1("binary"),
    "matthews_correlation": _matthews,
}
