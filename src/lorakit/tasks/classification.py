"""One label for one text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics.classification import DEFAULT, classification_metrics
from lorakit.tables.cells import label_name
from lorakit.tasks.base import CUT, Rows, Task


@dataclass(frozen=True)
class Classification(Task):
    """`labels` are the names in the order of the logits."""

    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = DEFAULT
    """Of those that `classification_metrics` knows; the first decides between checkpoints."""
    blank_texts: bool = False
    """Whether a text may be empty."""

    name: ClassVar[str] = "classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"

    @property
    def best_metric(self) -> str:
        return self.metrics[0]

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
