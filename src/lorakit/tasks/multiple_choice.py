"""One of several continuations of a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.metrics import classification_metrics
from lorakit.tables.cells import is_place, label_name
from lorakit.tasks.base import TRUNCATED, Example, Row, Rows, Task, inputs_of
from lorakit.tasks.baseline import Baseline, commonest
from lorakit.tasks.pieces import Piece
from lorakit.tasks.tokenizing import tokenize_texts


@dataclass(frozen=True)
class MultipleChoice(Task):
    """`text` is the column of questions, then one column for each choice.

    `label` is the right choice: the name of its column, or its index, counted from 0.
    """

    name: ClassVar[str] = "multiple_choice"
    auto_class: ClassVar[str] = "AutoModelForMultipleChoice"
    best_metric: ClassVar[str] = "accuracy"

    def head(self) -> dict[str, Any]:
        return {}

    def target(self, value: Any) -> int:
        """The index of the right choice."""
        choices, name = self.text[1:], label_name(value)
        if name in choices:
            return choices.index(name)
        if not is_place(name, len(choices)):
            hint = "; choices count from 0" if name == str(len(choices)) else ""
            raise ConfigError(
                f"has the label {name!r}, which is none of the {len(choices)} choices: use 0 to "
                f"{len(choices) - 1} or the name of a choice's column{hint}"
            )
        return int(name)

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        question, *choices = self.text
        n, size = len(choices), len(rows[question])
        first = [str(value) for value in rows[question] for _ in choices]
        second = [str(rows[choice][i]) for i in range(size) for choice in choices]
        flat = tokenize_texts(tokenizer, [first, second], self.max_length)
        encoded: dict[str, list[Any]] = {
            k: [v[i * n : (i + 1) * n] for i in range(size)] for k, v in flat.items()
        }
        encoded[TRUNCATED] = [sum(choices) for choices in encoded[TRUNCATED]]
        return {**encoded, **self.targets(rows)}

    def collate(self, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Tensor]:
        """(examples, choices, tokens): padded over all choices."""
        n = len(self.text) - 1
        flat = [{k: v[i] for k, v in inputs_of(e).items()} for e in examples for i in range(n)]
        padded = tokenizer.pad(flat, return_tensors="pt")
        batch = {k: v.view(len(examples), n, -1) for k, v in padded.items()}
        if "labels" in examples[0]:
            batch["labels"] = torch.tensor([example["labels"] for example in examples])
        return batch

    def row_pieces(self, row: Row) -> list[Piece]:
        right = self.target(row[str(self.label)])
        question, *choices = (f"{column}: {row[column]}" for column in self.text)
        return [Piece(f"{question}\n"), *_lines(choices, right)]

    def pieces(self, tokenizer: Any, example: Example) -> list[Piece]:
        """Each choice with its question, on a line of its own."""
        return _lines(map(tokenizer.decode, example["input_ids"]), example["labels"])

    def class_counts(self, table: Any) -> dict[str, int]:
        """How often each choice is the right one."""
        counts = Counter(map(self.target, table[self.label][:]))
        return {name: counts[i] for i, name in enumerate(self.text[1:])}

    def require_probabilities(self) -> None:
        return None

    @property
    def answer_names(self) -> tuple[str, ...]:
        return self.text[1:]

    def baseline(self, train: Any, test: Any) -> Baseline | None:
        """The choice that is right most often in the test set."""
        labels = [self.target(value) for value in test[self.label]]
        hits = labels.count(commonest(labels))
        return Baseline("choice that is right most often", "accuracy", hits / len(labels))

    def predictions(self, outputs: Tensor) -> list[str]:
        return [self.text[1 + i] for i in outputs.argmax(-1).tolist()]

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        return classification_metrics(outputs.argmax(-1).tolist(), labels.tolist())


def _lines(choices: Iterable[str], right: int) -> list[Piece]:
    """A line for each choice; the right one is learned."""
    lines = [(Piece(choice, number == right), Piece("\n")) for number, choice in enumerate(choices)]
    return [piece for line in lines for piece in line][:-1]
