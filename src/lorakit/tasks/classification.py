"""One label for one text or a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.classification import DEFAULT, classification_metrics
from lorakit.tables.cells import is_blank, label_name, label_names
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Task
from lorakit.tasks.baseline import Baseline, commonest
from lorakit.tasks.labelled_text import LabelledText

_SEVERAL = "for several labels at once use the task multi_label_classification"


@dataclass(frozen=True)
class Classification(LabelledText):
    """Exactly one of `labels`."""

    metrics: tuple[str, ...] = DEFAULT
    """Names for `classification_metrics`; by the first the best checkpoint is chosen."""
    blank_texts: bool = False
    """Whether cells of the text columns may be empty."""

    name: ClassVar[str] = "classification"
    problem_type: ClassVar[str] = "single_label_classification"

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the labels that occur in the table."""
        cells = Cells(table, str(label))
        if any(isinstance(value, list) for value in cells):
            raise ConfigError(f"Column {label!r} has lists of labels; {_SEVERAL}.")
        labels = label_names(cells)
        if len(labels) < 2:
            found = f"only the label {labels[0]!r}" if labels else "no labels"
            raise ConfigError(
                f"Column {label!r} has {found}; classification needs two different labels or more."
            )
        return cls(text, label, max_length, labels)

    @classmethod
    def unseen_labels(cls, train: Sequence[Any], other: Sequence[Any]) -> dict[int, str]:
        known = {*label_names(train)}
        names = ((row, label_name(value)) for row, value in enumerate(other) if not is_blank(value))
        return {row: name for row, name in names if name not in known}

    @property
    def best_metric(self) -> str:
        return self.metrics[0]

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The most frequent class of the test set."""
        labels = [self.target(value) for value in test[self.label]]
        found = classification_metrics([commonest(labels)] * len(labels), labels, self.metrics)
        return Baseline("majority class", self.best_metric, found[self.best_metric])

    def class_counts(self, table: Any) -> dict[str, int]:
        counts = Counter(label_name(value) for value in table[self.label][:])
        return {label: counts[label] for label in self.labels}

    def target_text(self, target: int) -> str:
        return self.labels[target]

    def text_problem(self, column: str, value: Any) -> str | None:
        may_be_blank = self.blank_texts and is_blank(value)
        return None if may_be_blank else super().text_problem(column, value)

    def target(self, value: Any) -> int:
        """The index of the label's logit."""
        if isinstance(value, list):
            raise ConfigError(f"has a list of labels; {_SEVERAL}")
        return self.index(label_name(value))

    def predictions(self, outputs: Tensor) -> list[str]:
        return [self.labels[i] for i in outputs.argmax(-1).tolist()]

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        predicted = outputs.argmax(-1).tolist()
        return classification_metrics(predicted, labels.tolist(), self.metrics)
