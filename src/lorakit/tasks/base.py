"""The interface between data and training: one kind of supervised example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank
from lorakit.tasks.table_checks import bad_labels, bad_texts, missing_columns

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Any]]
"""A table, or a part of it, by columns."""
Example = dict[str, Any]
"""What a tokenizer gives for one row: lists of ids, `labels`, and whether the row was cut."""

SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"
"""transformers' class of the models that give one row of logits for each example."""
CUT = "cut"
"""The column of an encoded table that says whether a row was longer than `max_length`."""


@dataclass(frozen=True)
class BareAdapter:
    """What is known of an adapter that has no task file."""

    text: tuple[str, ...]
    label: str | None
    max_length: int
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits, if they were given."""
    head_height: int | None = None
    """Its number of logits; None without a head."""
    base_labels: tuple[str, ...] = ()
    """What the base's own config calls the logits."""


@dataclass(frozen=True)
class Task(ABC):
    """Rows in, examples, batches and scores out.

    `text` names the columns that are read, in order; `label` the one that is learned.
    """

    text: tuple[str, ...]
    label: str | None
    max_length: int

    name: ClassVar[str]
    auto_class: ClassVar[str]
    """The class of transformers that has the head: "AutoModelForSequenceClassification", ..."""
    higher_is_better: ClassVar[bool] = True
    generates: ClassVar[bool] = False
    needs_label: ClassVar[bool] = True
    """Whether a column of its own holds what is learned."""
    learns_number: ClassVar[bool] = False

    @property
    @abstractmethod
    def best_metric(self) -> str:
        """What decides between two checkpoints."""

    @abstractmethod
    def head(self) -> dict[str, Any]:
        """Keyword arguments for the model's config: number and names of labels."""

    @abstractmethod
    def target(self, value: Any) -> Any:
        """The label as the loss takes it; raises ConfigError that says what is wrong with it."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Columns of ids, masks and CUT for rows given by columns; `labels` if they have them."""

    @abstractmethod
    def predictions(self, outputs: Tensor) -> list[Any]:
        """What the model says for each example, from its logits."""

    @abstractmethod
    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """The metrics of these logits."""

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task for a training table; raises ConfigError if it has nothing to learn."""
        return cls(text, label, max_length)

    @classmethod
    def from_adapter(cls, adapter: BareAdapter) -> Task:
        """The task of an adapter that has no task file; raises ConfigError if it has no head."""
        return cls(adapter.text, adapter.label, adapter.max_length)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the logits of an example stand for, where they stand for classes."""
        return ()

    @property
    def known_columns(self) -> list[str]:
        """The columns that are read and learned."""
        return [*self.text, *([self.label] if self.label else [])]

    @property
    def added_columns(self) -> tuple[str, ...]:
        """What `answered` adds to the rows."""
        return ()

    def answered(self, table: Any) -> Iterable[dict[str, Any]]:
        """The test rows as predictions.jsonl shows them beside their predictions."""
        rows: Iterable[dict[str, Any]] = table.select_columns(self.known_columns)
        return rows

    def majority(self, table: Any) -> float | None:
        """Accuracy of always saying the most frequent label, where there are classes."""
        return None

    def require_packages(self) -> None:
        """Raise MissingDependencyError if `report` needs packages that are missing."""
        return None

    def report(
        self, table: Any, predictions: Sequence[Any], output: Path, say: Callable[[str], None]
    ) -> dict[str, float]:
        """Metrics of a run's predictions beside those of `score`, and their files in `output`."""
        return {}

    def text_problem(self, column: str, value: Any) -> str | None:
        """What is wrong with the cell of a text column, if anything is."""
        return "is empty" if is_blank(value) else None

    def check(self, table: Any, name: str = "the table", labelled: bool = True) -> None:
        """Raise ConfigError that lists the missing columns, or the bad cells.

        Texts and blank labels are named by their rows, labels that are wrong by themselves. With
        `labelled` the column of labels has to be there and hold labels.
        """
        label = (self.label,) if labelled and self.label is not None else ()
        problems = missing_columns(table.column_names, [*self.text, *label])
        if not problems:
            for column in self.text:
                problems += bad_texts(table[column][:], column, self.text_problem)
            for column in label:
                problems += bad_labels(table[column][:], column, self.target)
        if problems:
            raise ConfigError(f"{name} does not fit the task {self.name}:", problems)

    def targets(self, rows: Rows) -> dict[str, list[Any]]:
        """The column `labels` where the rows have one."""
        if self.label is None or self.label not in rows:
            return {}
        return {"labels": [self.target(value) for value in rows[self.label]]}

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        """How much a batch's mean loss counts: its number of examples."""
        return torch.tensor(batch["labels"].shape[0])

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A batch, padded to its longest example."""
        batch = dict(tokenizer.pad([inputs_of(e) for e in examples], return_tensors="pt"))
        if "labels" in examples[0]:
            batch["labels"] = torch.tensor([example["labels"] for example in examples])
        return batch


def inputs_of(example: Example) -> Example:
    """What the model reads of an example."""
    return {key: value for key, value in example.items() if key not in ("labels", CUT)}
