"""What the architecture of a language model decides: examples, the loss' targets, generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lorakit.tasks.pieces import Piece

Columns = dict[str, list[Any]]
"""An encoded table: ids, masks, `labels` if there are, and TRUNCATED."""


class TextModel(ABC):
    """One architecture."""

    name: str
    """Its name in task files."""
    auto_class: str
    """transformers' auto class."""
    continues_prompt: bool
    """Whether the model writes a completion behind its prompt, in one sequence with it."""

    @abstractmethod
    def encode(
        self,
        tokenizer: Any,
        prompts: Sequence[str],
        completions: Sequence[str],
        max_length: int,
        end: int | None,
    ) -> Columns:
        """Examples of prompts with completions; `end` is the token that closes a completion."""

    @abstractmethod
    def encode_prompts(self, tokenizer: Any, prompts: Sequence[str], max_length: int) -> Columns:
        """Prompts to complete."""

    @abstractmethod
    def completion_ids(self, tokenizer: Any, completions: Sequence[str]) -> list[list[int]]:
        """The ids of completions alone, without the token that closes them."""

    @abstractmethod
    def pieces(self, tokenizer: Any, ids: Sequence[int], labels: Sequence[int]) -> list[Piece]:
        """An example as text, with what is learned of it."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """The labels (B, n) that the first n logits of each row are compared with."""

    @abstractmethod
    def lengths(self, max_length: int, new_tokens: int | None, default: int) -> tuple[int, int]:
        """How many tokens a prompt and its completion may have, `new_tokens` if it is set.

        Raises ConfigError if there is no room for them.
        """

    @abstractmethod
    def longest_completion(self, max_length: int) -> int:
        """The number of tokens of a completion at most, where nobody has set it."""


def without_eos(ids: Sequence[list[int]], tokenizer: Any) -> list[list[int]]:
    """Texts without the EOS token that some tokenizers add."""
    return [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in ids]
