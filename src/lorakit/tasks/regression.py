"""One number for one text or a pair of texts.

Training learns the target in units of its own spread, z = (y - mean) / scale: a rate that moves
logits of a size near 1 would take thousands of steps to reach a mean of 1,234.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics import regression_metrics
from lorakit.tables.cells import decimal_mark, number
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, Example, Learned, Rows, Task, Units
from lorakit.tasks.baseline import Baseline, without_spread
from lorakit.tasks.tokenizing import tokenize

_LARGEST = 1e18


@dataclass(frozen=True)
class Regression(Task):
    """`label` is a number; the loss is the mean squared error."""

    mean: float = 0.0
    """What is added to the model's output; 0 where its last layer has it."""
    scale: float = 1.0
    """What the model's output is multiplied by, before that."""
    decimal: str = "."
    """What stands before the decimals of numbers that are text: a point, or a comma."""

    name: ClassVar[str] = "regression"
    auto_class: ClassVar[str] = SEQUENCE_CLASSIFICATION
    learns: ClassVar[Learned] = "a number"
    best_metric: ClassVar[str] = "pearson"

    def head(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the decimal mark, mean and standard deviation of the training table."""
        try:
            decimal = decimal_mark(table[label])
        except ConfigError as error:
            raise ConfigError(f"Column {label!r} cannot be read: {error}.") from error
        numbers = [value for cell in table[label] if (value := number(cell, decimal)) is not None]
        if (largest := max(map(abs, numbers), default=0.0)) > _LARGEST:
            raise ConfigError(
                f"Column {label!r} has numbers of up to {largest:.3g} in size, and above "
                f"{_LARGEST:g} their squares overflow in float32; divide them, or learn their "
                "logarithms."
            )
        mean = statistics.fmean(numbers or [0.0])
        spread = math.dist(numbers, [mean] * len(numbers)) / math.sqrt(len(numbers) or 1)
        return cls(text, label, max_length, mean, spread or 1.0, decimal)

    @property
    def units(self) -> Units:
        return Units(self.mean, self.scale)

    def with_folded_units(self, layer: Sequence[str]) -> Task:
        """Its weight has the scale, and its bias the mean."""
        mean = self.mean if len(layer) == 1 else 0.0
        return replace(self, mean=mean, scale=1.0) if layer else self

    def target(self, value: Any) -> float:
        """The number itself."""
        found = number(value, self.decimal)
        if found is None:
            known = "" if self.decimal == "." else ", with decimals after a comma as in training"
            raise ConfigError(f"has the value {value!r}, which is not a finite number{known}")
        return found

    def remarks(self, tokenizer: Any, table: Any) -> list[str]:
        comma = self.decimal == ","
        return [f"The numbers of {self.label} are read with decimals after a comma."] * comma

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        return {**tokenize(tokenizer, rows, self.text, self.max_length), **self.targets(rows)}

    def number_range(self, table: Any) -> dict[str, float]:
        values = list(map(self.target, table[self.label][:]))
        return {"least": min(values), "mean": statistics.fmean(values), "greatest": max(values)}

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The mean of the training set."""
        mean = statistics.fmean(self.target(value) for value in train[self.label])
        gaps = [self.target(value) - mean for value in test[self.label]]
        error = statistics.fmean(gap * gap for gap in gaps)
        return Baseline("mean of training", "mse", error, higher_is_better=False)

    def sameness(self, predictions: Sequence[Any], test: Any) -> str | None:
        return without_spread(predictions, [self.target(value) for value in test[self.label]])

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The batch, with targets in the model's units."""
        batch = super().collate(tokenizer, examples)
        if "labels" in batch:
            targets = [(example["labels"] - self.mean) / self.scale for example in examples]
            batch["labels"] = torch.tensor(targets)
        return batch

    def predictions(self, outputs: Tensor) -> list[float]:
        return self._in_own_units(outputs.squeeze(-1))

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        return regression_metrics(self.predictions(outputs), self._in_own_units(labels))

    def _in_own_units(self, values: Tensor) -> list[float]:
        found: list[float] = (values.double() * self.scale + self.mean).tolist()
        return found
