"""Several seeds as one number with its spread, and whether two such numbers differ.

std    s, the standard deviation of a sample (n - 1)
ci95   t(0.975; n - 1) s / sqrt(n), half of the mean's 95% interval
test   Welch's t-test of two means, two-sided: runs of one seed share the order of the rows and
       nothing that makes their results alike, so they are not paired
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from lorakit.experiments.sweep import Spread, Statistic

LEVEL = 0.05
"""A difference whose p-value is not below is one that noise could explain."""
TEST = "Welch's t-test, two-sided, 5%, not corrected for the number of comparisons"

Values = Sequence[float]

_CENTERS: dict[Statistic, Callable[[Values], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
}


def _interval(values: Values) -> float:
    from scipy.stats import t

    n = len(values)
    return float(t.ppf(0.975, n - 1) * statistics.stdev(values) / n**0.5)


SPREAD_TITLES: dict[str, str] = {
    "std": "standard deviation",
    "ci95": "95% interval (t distribution)",
}
_SPREADS: dict[Spread, Callable[[Values], float]] = {"std": statistics.stdev, "ci95": _interval}


def center(kind: Statistic, values: Values) -> float:
    """The mean or median; NaN where a value is not finite, as of a run that diverged."""
    return _CENTERS[kind](values) if all(map(math.isfinite, values)) else math.nan


def spread(kind: Spread, values: Values) -> float | None:
    """None where there is but one value, or one is not finite."""
    return _SPREADS[kind](values) if _have_spread(values) else None


def p_value(one: Values, other: Values) -> float | None:
    """That of the test; None where a side has but one value, or one that is not finite.

    >>> round(p_value([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 3), p_value([1.0, 2.0], [3.0])
    (0.288, None)
    """
    from scipy.stats import ttest_ind_from_stats

    if not (_have_spread(one) and _have_spread(other)):
        return None
    means = [statistics.fmean(values) for values in (one, other)]
    deviations = [statistics.stdev(values) for values in (one, other)]
    if not any(deviations):
        return float(means[0] == means[1])
    sides = zip(means, deviations, (len(one), len(other)), strict=True)
    numbers = [number for side in sides for number in side]
    return float(ttest_ind_from_stats(*numbers, equal_var=False).pvalue)


def _have_spread(values: Values) -> bool:
    return len(values) > 1 and all(map(math.isfinite, values))
