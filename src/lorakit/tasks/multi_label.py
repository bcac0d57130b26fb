"""Any number of labels for one text or a pair of texts: a sigmoid and a decision for each label.

A cell holds the names of its labels, `["joy", "surprise"]`, or a 0 or 1 for each label,
`[1, 0, 1]`: as a list, or as JSON of one. Predictions are written in the form of the labels.

    p = sigmoid(z),    label i is predicted where p_i > threshold_i

The loss is transformers' for `multi_label_classification`, the binary cross-entropy averaged over
the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.multi_label import multi_label_metrics
from lorakit.tables.cells import label_name, label_names
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Learned, Task
from lorakit.tasks.baseline import Baseline, commonest_labels
from lorakit.tasks.label_lists import as_list, indicator_size, labels_in
from lorakit.tasks.labelled_text import LabelledText
from lorakit.text import plural, repeated


@dataclass(frozen=True)
class MultiLabelClassification(LabelledText):
    """Any number of `labels`."""

    indicators: bool = False
    """Whether a cell has a 0 or 1 for each label, and not the names of its labels."""
    thresholds: tuple[float, ...] = (0.5,)
    """The probability above which a label is predicted: one for all labels, or one for each."""

    name: ClassVar[str] = "multi_label_classification"
    problem_type: ClassVar[str] = "multi_label_classification"
    best_metric: ClassVar[str] = "f1_micro"
    learns: ClassVar[Learned] = "a set of labels"

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the labels that occur in the table, or one for each 0 or 1 of a cell."""
        cells = Cells(table, str(label))
        size = indicator_size(cells)
        labels = tuple(map(str, range(size))) if size else label_names(labels_in(cells, size))
        if not labels:
            raise ConfigError(
                f"Column {label!r} has no labels; it needs lists of names, or lists of 0 and 1."
            )
        return cls(text, label, max_length, labels, indicators=size > 0)

    @classmethod
    def unseen_labels(cls, train: Sequence[Any], other: Sequence[Any]) -> dict[int, str]:
        size = indicator_size([*train, *other])
        known = {*labels_in(train, size)}
        new = ((row, {*labels_in([value], size)} - known) for row, value in enumerate(other))
        return {row: ", ".join(sorted(names)) for row, names in new if names}

    def class_counts(self, table: Any) -> dict[str, int]:
        """How many rows have each label."""
        columns = zip(*map(self.target, table[self.label][:]), strict=True)
        return {name: int(sum(column)) for name, column in zip(self.labels, columns, strict=True)}

    def target_text(self, target: Sequence[float]) -> str:
        return ", ".join(self._present(target)) or "none"

    def with_thresholds(self, thresholds: Sequence[float]) -> Task:
        if len(thresholds) not in (1, len(self.labels)) or not all(0 < t < 1 for t in thresholds):
            raise ConfigError(
                f"The thresholds are {', '.join(f'{t:g}' for t in thresholds)}; pass one for all "
                f"labels, or one for each ({plural(len(self.labels), 'label')}), above 0 and below "
                "1."
            )
        return replace(self, thresholds=tuple(thresholds))

    def target(self, value: Any) -> list[float]:
        """A 1 for each label of the cell, else 0."""
        cell, count = as_list(value), len(self.labels)
        if not self.indicators:
            if twice := repeated(map(label_name, cell)):
                raise ConfigError(f"has {', '.join(map(repr, twice))} more than once in {cell!r}")
            present = {self.index(name) for name in label_names(cell)}
            return [float(i in present) for i in range(count)]
        if len(cell) != count or indicator_size([cell]) != count:
            raise ConfigError(f"has {cell!r}, and training had {count} labels, each 0 or 1")
        return [float(part) for part in cell]

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The set of labels that is the best answer to every row of the test set."""
        labels = [[*map(int, self.target(value))] for value in test[self.label]]
        found = multi_label_metrics([commonest_labels(labels)] * len(labels), labels)
        return Baseline("commonest labels", self.best_metric, found[self.best_metric])

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(rows, labels): the sigmoid of each logit, in float64."""
        return outputs.double().sigmoid()

    def predictions(self, outputs: Tensor) -> list[list[Any]]:
        decided: list[list[int]] = self._decided(outputs).tolist()
        if self.indicators:
            return decided
        return list(map(self._present, decided))

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        return multi_label_metrics(self._decided(outputs).tolist(), labels.int().tolist())

    def _present(self, row: Sequence[float]) -> list[str]:
        """The names of the labels of a row of 0 and 1."""
        return [label for label, yes in zip(self.labels, row, strict=True) if yes]

    def _decided(self, outputs: Tensor) -> Tensor:
        probabilities = self.probabilities(outputs)
        return (probabilities > probabilities.new_tensor(self.thresholds)).int()
