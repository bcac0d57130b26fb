"""The threshold of the highest F1, beside a search over all that decide differently."""

from __future__ import annotations

import random

import pytest

from lorakit.metrics.multi_label import best_threshold


def f1(threshold: float, probabilities: list[float], labels: list[int]) -> float:
    decided = [p > threshold for p in probabilities]
    hits = sum(d and y for d, y in zip(decided, labels, strict=True))
    return 2 * hits / max(sum(decided) + sum(labels), 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    draw = random.Random(seed)
    labels = [int(draw.random() < 0.3) for _ in range(40)] + [1]
    probabilities = [round(draw.betavariate(2 + y, 6 - y), 2) for y in labels]  # with equal ones
    found = best_threshold(probabilities, labels)
    best = max(f1(t, probabilities, labels) for t in (i / 400 for i in range(400)))
    assert f1(found, probabilities, labels) == pytest.approx(best)
    assert 0 < found < 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "threshold"),
    [
        ([0.1, 0.4, 0.7], [0, 0, 1], 0.5),  # as good as any
        ([0.1, 0.2, 0.6], [1, 1, 1], 0.05),  # all of them
        ([0.1, 0.7, 0.9], [0, 0, 1], 0.8),
        ([0.5, 0.5], [0, 1], 0.25),  # 0.5 itself is not above 0.5
        ([0.2, 0.4, 0.6, 0.8], [1, 0, 0, 1], 0.7),  # 2/3 there and at 0.1; this is nearer to 0.5
    ],
)
def test_half_stays_where_it_is_as_good_and_the_nearest_is_taken(
    probabilities, labels, threshold
) -> None:
    assert best_threshold(probabilities, labels) == pytest.approx(threshold)
