"""One label for one text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.classification import DEFAULT, classification_metrics
from lorakit.tables.cells import label_name, label_names
from lorakit.tasks.base import CUT, SEQUENCE_CLASSIFICATION, BareAdapter, Rows, Task


@dataclass(frozen=True)
class Classification(Task):
    """`labels` are the names in the order of the logits."""

    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = DEFAULT
    """Of those that `classification_metrics` knows; the first decides between checkpoints."""
    blank_texts: bool = False
    """Whether a text may be empty."""

    name: ClassVar[str] = "classification"
    auto_class: ClassVar[str] = SEQUENCE_CLASSIFICATION

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the labels that occur in the table."""
        labels = label_names(table[label][:])
        if len(labels) < 2:
            found = f"the single label {labels[0]!r}" if labels else "no label"
            raise ConfigError(f"Column {label!r} has {found}; there is nothing to learn.")
        return cls(text, label, max_length, labels)

    @classmethod
    def from_adapter(cls, adapter: BareAdapter) -> Task:
        """The task with a label for each logit: its number where no names are given."""
        count = required_head(adapter)
        labels = adapter.labels or tuple(map(str, range(count)))
        if len(labels) != count:
            raise ConfigError(
                f"The adapter's head has {count} labels, and {len(labels)} are named."
            )
        return cls(adapter.text, adapter.label, adapter.max_length, labels)

    @property
    def best_metric(self) -> str:
        return self.metrics[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.labels

    def majority(self, table: Any) -> float | None:
        if self.label is None:
            return None
        names = [label_name(value) for value in table[self.label]]
        return max(map(names.count, set(names))) / len(names)

    def text_problem(self, column: str, value: Any) -> str | None:
        return None if self.blank_texts else super().text_problem(column, value)

    def head(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def target(self, value: Any) -> int:
        """The label's place among the logits."""
        name = label_name(value)
        if name not in self.labels:
            known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
            raise ConfigError(
                f"holds {name!r}, which does not occur in the training data (there: {known})"
            )
        return self.labels.index(name)

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        return {**tokenize(tokenizer, rows, self.text, self.max_length), **self.targets(rows)}

    def predictions(self, outputs: Tensor) -> list[str]:
        return [self.labels[i] for i in outputs.argmax(-1).tolist()]

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        predicted = outputs.argmax(-1).tolist()
        return classification_metrics(predicted, labels.tolist(), self.metrics)


def required_head(adapter: BareAdapter) -> int:
    """The number of logits of an adapter's head; raises ConfigError if it has none."""
    if adapter.head_height is None:
        raise ConfigError("The adapter brings no classification head, so it has no labels to say.")
    return adapter.head_height


def tokenize(
    tokenizer: Any, rows: Rows, text: Sequence[str], max_length: int
) -> dict[str, list[Any]]:
    """The ids of one text or a pair, the longer one cut first where both exceed `max_length`."""
    columns = [[str(value) for value in rows[column]] for column in text]
    return tokenize_texts(tokenizer, columns, max_length)


def tokenize_texts(
    tokenizer: Any, columns: Sequence[list[str]], max_length: int
) -> dict[str, list[Any]]:
    """What the tokenizer gives for one list of texts or two, and CUT."""
    special = tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if max_length <= special:
        raise ConfigError(
            f"data.max_length is {max_length}; {special} of these are special tokens, so it has "
            f"to be above {special}."
        )
    encoded = dict(tokenizer(*columns, truncation=True, max_length=max_length))
    return {**encoded, CUT: _cut(tokenizer, columns, encoded["input_ids"], max_length)}


def _cut(
    tokenizer: Any, columns: Sequence[list[str]], ids: Sequence[list[int]], max_length: int
) -> list[bool]:
    """Which texts were longer; only those that fill the limit are tokenized once more."""
    full = [row for row, row_ids in enumerate(ids) if len(row_ids) >= max_length]
    cut = [False] * len(ids)
    if full:
        texts = [[column[row] for row in full] for column in columns]
        for row, whole in zip(full, tokenizer(*texts, verbose=False)["input_ids"], strict=True):
            cut[row] = len(whole) > max_length
    return cut
