"""How a task shows its rows and examples to people, and what their labels are in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.tasks.pieces import Piece, answered


class Shown:
    """The part of a `Task` that a preview asks."""

    text: tuple[str, ...]
    label: str | None

    def row_pieces(self, row: Mapping[str, Any]) -> list[Piece]:
        """A row as text; without a column of labels its texts are learned."""
        single = len(self.text) == 1
        cells = [str(row[c]) if single else f"{c}: {row[c]}" for c in self.text]
        read = "\n".join(cells)
        return [Piece(read, True)] if self.label is None else answered(read, str(row[self.label]))

    def pieces(self, tokenizer: Any, example: dict[str, Any]) -> list[Piece]:
        """An encoded example as text, as the model reads it."""
        return answered(tokenizer.decode(example["input_ids"]), self.target_text(example["labels"]))

    def target_text(self, target: Any) -> str:
        """An encoded label for people."""
        return str(target)

    def class_counts(self, table: Any) -> dict[str, int]:
        """How often each class occurs in a table, where there are classes."""
        return {}

    def number_range(self, table: Any) -> dict[str, float]:
        """The least, the mean and the greatest label, where labels are numbers."""
        return {}
