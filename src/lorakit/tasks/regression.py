"""One number for one text or a pair of texts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics import regression_metrics
from lorakit.tables.cells import number
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, Learned, Rows, Task
from lorakit.tasks.baseline import Baseline, without_spread
from lorakit.tasks.tokenizing import tokenize


@dataclass(frozen=True)
class Regression(Task):
    """`label` is a number; the loss is the mean squared error."""

    name: ClassVar[str] = "regression"
    auto_class: ClassVar[str] = SEQUENCE_CLASSIFICATION
    learns: ClassVar[Learned] = "a number"
    best_metric: ClassVar[str] = "pearson"

    def head(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def target(self, value: Any) -> float:
        """The number itself."""
        found = number(value)
        if found is None:
            raise ConfigError(f"has the value {value!r}, which is not a finite number")
        return found

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        return {**tokenize(tokenizer, rows, self.text, self.max_length), **self.targets(rows)}

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The mean of the training set."""
        mean = statistics.fmean(self.target(value) for value in train[self.label])
        error = statistics.fmean((self.target(v) - mean) ** 2 for v in test[self.label])
        return Baseline("mean of training", "mse", error, higher_is_better=False)

    def sameness(self, predictions: Sequence[Any], test: Any) -> str | None:
        return without_spread(predictions, [self.target(value) for value in test[self.label]])

    def predictions(self, outputs: Tensor) -> list[float]:
        values: list[float] = outputs.squeeze(-1).tolist()
        return values

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        return regression_metrics(outputs.squeeze(-1).tolist(), labels.tolist())
