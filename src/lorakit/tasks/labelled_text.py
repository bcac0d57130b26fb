"""What classifications of a text share: the text, or the pair, as the model reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lorakit.tasks.base import SEQUENCE_CLASSIFICATION, Rows
from lorakit.tasks.class_head import ClassHead
from lorakit.tasks.tokenizing import tokenize


@dataclass(frozen=True)
class LabelledText(ClassHead):
    """One text or a pair, with one row of logits."""

    auto_class: ClassVar[str] = SEQUENCE_CLASSIFICATION
    problem_type: ClassVar[str]
    """transformers' name of the loss."""

    def require_probabilities(self) -> None:
        return None

    def head(self) -> dict[str, Any]:
        return {**super().head(), "problem_type": self.problem_type}

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        return {**tokenize(tokenizer, rows, self.text, self.max_length), **self.targets(rows)}
