"""One label for one text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.classification import DEFAULT, classification_metrics
from lorakit.tables.cells import is_blank, label_name, label_names
from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, TRUNCATED, BareAdapter, Rows, Task
from lorakit.text import plural


@dataclass(frozen=True)
class Classification(Task):
    """`labels` are the names in the order of the logits."""

    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = DEFAULT
    """Names for `classification_metrics`; by the first the best checkpoint is chosen."""
    blank_texts: bool = False
    """Whether cells of the text columns may be empty."""

    name: ClassVar[str] = "classification"
    auto_class: ClassVar[str] = SEQUENCE_CLASSIFICATION

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task with the labels that occur in the table."""
        labels = label_names(table[label][:])
        if len(labels) < 2:
            found = f"only the label {labels[0]!r}" if labels else "no labels"
            raise ConfigError(
                f"Column {label!r} has {found}; classification needs two different labels or more."
            )
        return cls(text, label, max_length, labels)

    @classmethod
    def from_adapter(cls, adapter: BareAdapter) -> Task:
        """The task with a label for each logit: its number where no names are given."""
        count = required_head(adapter)
        labels = adapter.labels or tuple(map(str, range(count)))
        if len(labels) != count:
            raise ConfigError(
                f"The adapter's classification head has {plural(count, 'logit')}, and --labels "
                f"names {len(labels)}; name one label for each logit, in their order."
            )
        return cls(adapter.text, adapter.label, adapter.max_length, labels)

    @classmethod
    def unseen_labels(cls, train: Sequence[Any], other: Sequence[Any]) -> dict[int, str]:
        known = {*label_names(train)}
        names = ((row, label_name(value)) for row, value in enumerate(other) if not is_blank(value))
        return {row: name for row, name in names if name not in known}

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
        may_be_blank = self.blank_texts and is_blank(value)
        return None if may_be_blank else super().text_problem(column, value)

    def head(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def target(self, value: Any) -> int:
        """The index of the label's logit."""
        name = label_name(value)
        if name not in self.labels:
            known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
            raise ConfigError(
                f"has the label {name!r}, which is not in the training data; train with such rows, "
                f"or leave them out (its labels: {known})"
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
    """The number of logits of an adapter's head; raises ConfigError if it has no head."""
    if adapter.head_height is None:
        raise ConfigError(
            "The adapter contains no classification head, which this task needs; pass --task with "
            "the task that it was trained for."
        )
    return adapter.head_height


def tokenize(
    tokenizer: Any, rows: Rows, text: Sequence[str], max_length: int
) -> dict[str, list[Any]]:
    """Tokenize one text or a pair, truncated to `max_length`; of a pair the longer one first."""
    columns = [[str(value) for value in rows[column]] for column in text]
    return tokenize_texts(tokenizer, columns, max_length)


def tokenize_texts(
    tokenizer: Any, columns: Sequence[list[str]], max_length: int
) -> dict[str, list[Any]]:
    """The tokenizer's output for one list of texts or two, and TRUNCATED."""
    special = tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if max_length <= special:
        raise ConfigError(
            f"data.max_length is {max_length}, and the tokenizer adds {special} special tokens to "
            f"each example; set it above {special}."
        )
    encoded = dict(tokenizer(*columns, truncation=True, max_length=max_length))
    return {**encoded, TRUNCATED: _truncated(tokenizer, columns, encoded["input_ids"], max_length)}


def _truncated(
    tokenizer: Any, columns: Sequence[list[str]], ids: Sequence[list[int]], max_length: int
) -> list[bool]:
    """Which texts were truncated; only those that fill the limit are tokenized once more."""
    full = [row for row, row_ids in enumerate(ids) if len(row_ids) >= max_length]
    truncated = [False] * len(ids)
    if full:
        texts = [[column[row] for row in full] for column in columns]
        for row, whole in zip(full, tokenizer(*texts, verbose=False)["input_ids"], strict=True):
            truncated[row] = len(whole) > max_length
    return truncated
