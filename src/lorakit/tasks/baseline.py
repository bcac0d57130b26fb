"""What predictions are compared with: an answer that looks at no text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Baseline:
    """What a trivial answer scores on a test set."""

    answer: str
    """Which answer: "majority class"."""
    metric: str
    value: float
    higher_is_better: bool = True

    def is_beaten_by(self, value: float) -> bool:
        """Whether this value of the metric is better, or as good as there is."""
        if self.higher_is_better:
            return value > self.value or value == 1
        return value < self.value or value == 0


def commonest(values: Iterable[Value]) -> Value:
    """The value that occurs most often; of several the first."""
    return Counter(values).most_common(1)[0][0]


def commonest_labels(rows: Sequence[Sequence[int]]) -> list[int]:
    """The set of labels, as a 0 or 1 for each, that has the highest micro F1 as the answer to all.

    With n rows, k labels that occur c_1 >= c_2 >= ... times, t times together:

        F1 of the first k labels = 2 (c_1 + ... + c_k) / (k n + t)

    >>> commonest_labels([[1, 0, 0], [1, 0, 1], [1, 1, 0]])
    [1, 0, 0]
    """
    counts = [sum(column) for column in zip(*rows, strict=True)]
    order = sorted(range(len(counts)), key=lambda label: -counts[label])

    def f1(size: int) -> float:
        hits = sum(counts[label] for label in order[:size])
        return float(2 * hits / (size * len(rows) + sum(counts)))

    best = max(range(1, len(order) + 1), key=f1)
    return [int(label in order[:best]) for label in range(len(counts))]


def same_answer(
    predictions: Sequence[Any], expected: Sequence[Any], share: float, what: str = "rows"
) -> str | None:
    """A sentence about one answer to this share of the rows; None where as many rows expect one.

    >>> same_answer(["a", "a", "a"], ["a", "b", "a"], 1.0)
    "'a' is the prediction for 3 of 3 rows."
    """
    if not predictions or _share(expected) >= share or _share(predictions) < share:
        return None
    answer, count = Counter(map(repr, predictions)).most_common(1)[0]
    return f"{answer} is the prediction for {count:,} of {len(predictions):,} {what}."


def without_spread(predictions: Sequence[float], expected: Sequence[float]) -> str | None:
    """A sentence about numbers that are nearly one, where other ones are expected.

    >>> without_spread([2.0, 2.001], [1.0, 4.0])
    '2 is the prediction for each row, or nearly.'
    """
    if not predictions or statistics.pstdev(predictions) >= 0.01 * statistics.pstdev(expected):
        return None
    return f"{statistics.fmean(predictions):.4g} is the prediction for each row, or nearly."


def _share(values: Sequence[Any]) -> float:
    """That of the commonest value."""
    return Counter(map(repr, values)).most_common(1)[0][1] / len(values)
