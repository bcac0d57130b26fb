"""The paper's orderings as hypotheses, and the rule that decides each; written before the numbers.

A claim is of pairs of rows: the first does at least as well as the second. Of a pair

    d   the mean over the tasks of the difference of the rows' means over their seeds, in points
    I   its 95% interval by Welch's t: the variances of the means of both rows and all tasks add up,
        with the degrees of freedom of Welch and Satterthwaite

are computed on the first metric of each task, and the pair

    has not held   where I is below 0: the second row is better
    has held       where I is above -MARGIN: the second is not better by as much as that
    is undecided   otherwise, and where a row has fewer than two seeds

A claim has not held if one of its pairs has not, has held if all have, and is undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from scipy.stats import t

MARGIN = 1.0
"""Points of a hundred."""
HELD, NOT_HELD, UNDECIDED, UNMEASURED = "held", "not held", "undecided", "not measured yet"

_ADAPTERS = ("houlsby", "pfeiffer", "lin")
_WEIGHTS = ("Wq", "Wk", "Wv", "Wo", "Wq Wk", "Wq Wk Wv Wo")
_PLACES = ("Wq Wv", "Wq Wk Wv Wo")


@dataclass(frozen=True)
class Claim:
    """An ordering that the paper claims."""

    sentence: str
    result: str
    """The name of the result that answers it."""
    pairs: Sequence[tuple[str, str]]


CLAIMS = (
    Claim(
        "LoRA does at least as well as adapters of its size", "minilm",
        [("lora", name) for name in _ADAPTERS],
    ),
    Claim(
        "adapters do at least as well as prefixes of their size", "minilm",
        [(name, "prefix_layer") for name in _ADAPTERS],
    ),
    Claim("LoRA does at least as well as full fine-tuning", "minilm", [("lora", "full")]),
    Claim(
        "LoRA does at least as well as adapters and prefixes of its size in generation", "smollm2",
        [("LoRA", "Adapter"), ("LoRA", "Prefix")],
    ),
    Claim(
        "adapters do at least as well as prefixes of their size in generation", "smollm2",
        [("Adapter", "Prefix")],
    ),
    Claim(
        "LoRA does at least as well as full fine-tuning in generation", "smollm2",
        [("LoRA", "Fine-Tune")],
    ),
    Claim(
        "rank saturates: 4 does at least as well as 64", "minilm-rank",
        [(f"{name}, lora.r=4", f"{name}, lora.r=64") for name in _PLACES],
    ),
    Claim(
        "W_q and W_v are the best of all at an equal budget", "minilm-weights",
        [("Wq Wv", name) for name in _WEIGHTS],
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Of two rows, in points."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.low:+.2f} to {self.high:+.2f})"

    @property
    def verdict(self) -> str:
        """What it says of the claim that the first row does at least as well."""
        if self.high < 0:
            return NOT_HELD
        return HELD if self.low > -MARGIN else UNDECIDED


def difference(table: Any, one: str, other: str) -> Difference | None:
    """Of two rows of a table; None where a row has fewer than two seeds on a task."""
    first, second = (_values(table, name) for name in (one, other))
    samples = [*first, *second]
    if len(first) != len(second) or min(map(len, samples), default=0) < 2:
        return None
    tasks = len(first)
    mean = sum(fmean(a) - fmean(b) for a, b in zip(first, second, strict=True)) / tasks
    parts = [variance(values) / len(values) / tasks**2 for values in samples]
    whole = sum(parts)
    if whole == 0:
        return Difference(100 * mean, 100 * mean, 100 * mean)
    freedom = whole**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, samples, strict=True)
    )
    half = float(t.ppf(0.975, freedom)) * whole**0.5
    return Difference(*(100 * value for value in (mean, mean - half, mean + half)))


def answer(claim: Claim, table: Any | None) -> tuple[str, dict[tuple[str, str], str]]:
    """The verdict, and the difference of each pair in words."""
    if table is None:
        return UNMEASURED, {}
    found = {pair: difference(table, *pair) for pair in claim.pairs}
    verdicts = {UNDECIDED if d is None else d.verdict for d in found.values()}
    texts = {pair: UNDECIDED if d is None else str(d) for pair, d in found.items()}
    if NOT_HELD in verdicts:
        return NOT_HELD, texts
    return (HELD if verdicts == {HELD} else UNDECIDED), texts


def _values(table: Any, name: str) -> list[list[float]]:
    """The values of a row by task, of the first metric of each; none of a row that is not there."""
    first = {column["task"]: place for place, column in reversed([*enumerate(table["columns"])])}
    rows = [row for row in table["rows"] if row["name"] == name]
    return [row["cells"][first[task]]["values"] for row in rows for task in sorted(first)]
