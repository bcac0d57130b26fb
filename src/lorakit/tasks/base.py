"""The interface between data and training: one kind of supervised example."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorakit.errors import ConfigError, suggest
from lorakit.tables.cells import is_blank, is_scalar
from lorakit.text import plural, rows_text

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Any]]
"""A table, or a part of it, by columns."""
Example = dict[str, Any]
"""What a tokenizer gives for one row: lists of ids, `labels`, and whether the row was cut."""

_NAMED = 10
CUT = "cut"
"""The column of an encoded table that says whether a row was longer than `max_length`."""


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
                problems += _bad_texts(table[column][:], column, self.text_problem)
            for column in label:
                problems += _bad_labels(table[column][:], column, self.target)
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


def missing_columns(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A sentence for each column that is not there, with the nearest names."""
    return [
        f"column {name!r} is not there{suggest(name, names)}; there are {', '.join(names)}"
        for name in dict.fromkeys(wanted)
        if name not in names
    ]


def _bad_texts(
    values: Sequence[Any], column: str, problem: Callable[[str, Any], str | None]
) -> list[str]:
    """One sentence for each kind of problem, with the rows that have it."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if (found := problem(column, value)) is not None:
            rows.setdefault(found, []).append(row)
    return [f"column {column!r} {found}: {rows_text(at)}" for found, at in rows.items()]


def _bad_labels(values: Sequence[Any], column: str, target: Callable[[Any], Any]) -> list[str]:
    """The blank ones by their rows, the wrong ones by their values."""
    blank = [row for row, value in enumerate(values) if is_blank(value)]
    problems = [f"column {column!r} is empty: {rows_text(blank)}"] if blank else []
    counts = Counter(value if is_scalar(value) else repr(value) for value in values)
    wrong = []
    for value, count in counts.items():
        try:
            if not is_blank(value):
                target(value)
        except ConfigError as error:
            wrong.append(f"column {column!r} {error.headline}: {plural(count, 'row')}")
    more = [f"and {len(wrong) - _NAMED} more values like that"] if len(wrong) > _NAMED else []
    return problems + wrong[:_NAMED] + more
