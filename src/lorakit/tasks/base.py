"""The interface between data and training: rows become examples, outputs become scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tables.cells import is_blank, text_problem
from lorakit.tables.chunks import Cells
from lorakit.tasks.baseline import Baseline, same_answer
from lorakit.tasks.shown import Shown
from lorakit.tasks.table_checks import AtRows, bad_cells, label_problem, missing_columns

Row = Mapping[str, Any]
Rows = Mapping[str, Sequence[Any]]
"""A table, or a part of it, by columns."""
Example = dict[str, Any]
"""One tokenized row: `input_ids`, masks, `labels`, and how many tokens were cut off."""

Learned = Literal["a class", "a number", "a set of labels"]
"""What the head learns for an example, or for a token."""

SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"
"""transformers' class of the models with one row of logits for each example."""
TOKEN_CLASSIFICATION = "AutoModelForTokenClassification"
"""That of the models with a row of logits for each token."""
TRUNCATED = "truncated"
"""The column of an encoded table: by how many tokens a row was longer than `max_length`."""


@dataclass(frozen=True)
class BareAdapter:
    """What is known of an adapter that has no task file."""

    text: tuple[str, ...]
    """The columns to read, if they were given."""
    label: str | None
    """The column of labels, if it was given."""
    max_length: int
    """Maximum tokens of one example."""
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits, if they were given."""
    head_height: int | None = None
    """The number of logits of its classification head; None without a head."""
    base_labels: tuple[str, ...] = ()
    """The `id2label` of the base's config, in order."""


@dataclass(frozen=True)
class Units:
    """What a learned number z means: mean + scale * z."""

    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Task(Shown, ABC):
    """One kind of supervised example: rows in; examples, batches and scores out."""

    text: tuple[str, ...]
    """The input columns, in order."""
    label: str | None
    """The column of labels (or completions); None where the input columns hold them."""
    max_length: int
    """Maximum tokens of one example; longer ones are truncated."""

    name: ClassVar[str]
    """The task's name in recipes and task files."""
    higher_is_better: ClassVar[bool] = True
    """Whether a higher `best_metric` is a better checkpoint."""
    generates: ClassVar[bool] = False
    """Whether predictions are generated text rather than read off the logits."""
    needs_label: ClassVar[bool] = True
    """Whether the labels stand in a column of their own."""
    learns: ClassVar[Learned] = "a class"
    """What a target is: the loss is a cross-entropy, a squared error or one of each label."""
    least_steps: ClassVar[int] = 300
    """The steps of a recipe that does not say how many, if its data are few."""
    piece_length: ClassVar[int | None] = None
    """The default of data.max_length; None: the model's limit."""

    @property
    @abstractmethod
    def auto_class(self) -> str:
        """transformers' auto class of the model: "AutoModelForSequenceClassification", ..."""

    @property
    @abstractmethod
    def best_metric(self) -> str:
        """The metric by which the best checkpoint is chosen."""

    @abstractmethod
    def head(self) -> dict[str, Any]:
        """Settings of the model's config for the task's head, such as num_labels and id2label."""

    @abstractmethod
    def target(self, value: Any) -> Any:
        """The label as the loss takes it; raises ConfigError with what is wrong with the cell."""

    @abstractmethod
    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """Tokenize rows, given by columns: ids, masks, TRUNCATED, and `labels` if there are."""

    @abstractmethod
    def predictions(self, outputs: Any) -> list[Any]:
        """The prediction for each row, from its logits, as `joined` makes them."""

    @abstractmethod
    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        """The metrics of these logits, as `joined` makes them, and of labels likewise."""

    @classmethod
    def from_table(
        cls, table: Any, text: tuple[str, ...], label: str | None, max_length: int
    ) -> Task:
        """The task for a training table; raises ConfigError if its labels cannot be learned."""
        return cls(text, label, max_length)

    @classmethod
    def from_adapter(cls, adapter: BareAdapter) -> Task:
        """The task of an adapter that has no task file; raises ConfigError if it has no head."""
        return cls(adapter.text, adapter.label, adapter.max_length)

    @classmethod
    def example_count(cls, table: Any, text: Sequence[str], max_length: int | None) -> int:
        """The number of examples that the table makes, or nearly."""
        return len(table)

    def for_base(self, config: Any) -> Task:
        """The task for a base with this config; raises ConfigError for one it cannot train."""
        return self

    @classmethod
    def unseen_labels(cls, train: Sequence[Any], other: Sequence[Any]) -> dict[int, str]:
        """The labels in `other`, by row, that cannot be learned from `train`; only classes can."""
        return {}

    def with_end_token(self, tokenizer: Any, token: str) -> Task:
        """The task with `data.end_token`; raises ConfigError for a task without completions."""
        raise ConfigError(
            f"data.end_token is {token!r}, and the task {self.name} generates no text; leave it "
            "out."
        )

    def stop_tokens(self, tokenizer: Any, labels: Iterable[Sequence[int]] = ()) -> list[int]:
        """The ids of the tokens at which generated text ends, by the labels of a training table."""
        return []

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits; empty where there are no classes."""
        return ()

    def require_probabilities(self) -> None:
        """Raise ConfigError if there are no `probabilities` of the answers to a row."""
        raise ConfigError(f"The task {self.name} predicts {self.learns} and has no probabilities.")

    @property
    def answer_names(self) -> tuple[str, ...]:
        """The columns of `probabilities`."""
        return self.class_names

    def probabilities(self, outputs: Tensor) -> Tensor:
        """(rows, answers): the softmax of the logits, in float64."""
        return outputs.double().softmax(-1)

    @property
    def units(self) -> Units:
        """Those of the model's logits."""
        return Units()

    def with_folded_units(self, layer: Sequence[str]) -> Task:
        """The task after its units went into these tensors of the last layer."""
        return self

    def with_thresholds(self, thresholds: Sequence[float]) -> Task:
        """The task with other probabilities to decide by; raises ConfigError if it has none."""
        raise ConfigError(f"The task {self.name} has no thresholds; leave them out.")

    @property
    def known_columns(self) -> list[str]:
        """The columns of inputs and labels."""
        return [*self.text, *([self.label] if self.label else [])]

    @property
    def added_columns(self) -> tuple[str, ...]:
        """The columns that `prediction_rows` adds."""
        return ()

    def prediction_rows(self, table: Any) -> Iterable[dict[str, Any]]:
        """The test rows as predictions.jsonl holds them, beside their predictions."""
        rows: Iterable[dict[str, Any]] = table.select_columns(self.known_columns)
        return rows

    def remarks(self, tokenizer: Any, table: Any) -> list[str]:
        """Sentences about how the columns are read, and what the model will not see of them."""
        return []

    def answers(self, rows: Rows, predictions: list[Any]) -> list[Any]:
        """The predictions for rows whose labels are not known, in the form of the rows."""
        return predictions

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """What an answer that looks at no text scores on a test set; None where there is none."""
        return None

    def sameness(self, predictions: Sequence[Any], test: Any) -> str | None:
        """A sentence about predictions that are all the same, where the labels differ."""
        return same_answer(predictions, test[self.label][:], 1.0) if self.label else None

    def require_packages(self) -> None:
        """Raise MissingDependencyError if `report` needs packages that are missing."""
        return None

    def report(
        self, table: Any, predictions: Sequence[Any], output: Path, log: Callable[[str], None]
    ) -> dict[str, float]:
        """Metrics of a run's predictions besides those of `score`; writes files to `output`."""
        return {}

    def text_problem(self, column: str, value: Any) -> str | None:
        """What is wrong with the cell of a text column, if anything is."""
        return "is empty" if is_blank(value) else text_problem(value)

    def blank_cells(self, rows: Rows) -> dict[str, list[int]]:
        """The rows whose cell is empty, by each column in which the task needs one."""
        return {
            name: [row for row, cell in enumerate(cells) if is_blank(cell)]
            for name, cells in rows.items()
            if name == self.label or self.text_problem(name, None) is not None
        }

    def check(self, table: Any, name: str = "the table", labelled: bool = True) -> None:
        """Raise ConfigError that lists the missing columns, or the bad cells by their rows.

        With `labelled` the column of labels has to exist and hold labels.
        """
        if problems := self.table_problems(table, labelled):
            raise ConfigError(f"{name} cannot be used for the task {self.name}:", problems)

    def table_problems(
        self, table: Any, labelled: bool = True, numbers: Sequence[int] | None = None
    ) -> list[str]:
        """What `check` lists; `numbers` are those of the rows in the table that these are from."""
        columns = [*self.text, *([self.label] if labelled and self.label is not None else [])]
        if missing := missing_columns(table.column_names, columns):
            return missing
        found = self.cell_problems({name: Cells(table, name) for name in columns})
        return [problem.sentence(numbers) for problem in found]

    def cell_problems(self, columns: Rows) -> list[AtRows]:
        """What is wrong with which cells of the input columns, and of the label's if it is in."""
        problems: list[AtRows] = []
        for column in self.text:
            problems += bad_cells(columns[column], column, partial(self.text_problem, column))
        if self.label is not None and self.label in columns:
            problem = partial(label_problem, target=self.target)
            problems += bad_cells(columns[self.label], self.label, problem)
        return problems

    def targets(self, rows: Rows) -> dict[str, list[Any]]:
        """The column `labels` where the rows have one."""
        if self.label is None or self.label not in rows:
            return {}
        return {"labels": [self.target(value) for value in rows[self.label]]}

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The weight of a batch's mean loss within a step: its number of examples."""
        return torch.tensor(batch["labels"].shape[0])

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """The batch as tensors, padded to its longest example."""
        batch = dict(tokenizer.pad([inputs_of(e) for e in examples], return_tensors="pt"))
        if "labels" in examples[0]:
            batch["labels"] = torch.tensor([example["labels"] for example in examples])
        return batch

    def own(self, values: Tensor, examples: Sequence[Example]) -> Sequence[Tensor]:
        """What is each example's own in a batch's logits, or in its labels: its row of them."""
        return values.unbind()

    def joined(self, parts: Sequence[Tensor], examples: Sequence[Example]) -> Any:
        """What is each example's own, of all examples in the rows' order: one tensor."""
        return torch.stack(tuple(parts))


def inputs_of(example: Example) -> Example:
    """The model's inputs in an example: all but labels and TRUNCATED."""
    return {key: value for key, value in example.items() if key not in ("labels", TRUNCATED)}
