"""Whole texts: the loss counts every token.

A text is followed by its end, and cut into pieces of `max_length`. A piece begins with the last
token of the one before, which its first prediction needs, so each token is learned once:

    text    a b c d e f g $        max_length 4
    pieces  a b c d | d e f g | g $
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lorakit.tasks.base import Rows
from lorakit.tasks.generation import CausalTask
from lorakit.tasks.text_models.decoder import columns_of, last_tokens, open_ended

_TOKEN_CHARACTERS = 4
"""Of English, to count pieces without a tokenizer."""


@dataclass(frozen=True)
class LanguageModeling(CausalTask):
    """`text` is the column of texts, of which each row is learned from its beginning to its end."""

    name: ClassVar[str] = "language_modeling"
    needs_label: ClassVar[bool] = False
    has_references: ClassVar[bool] = False
    piece_length: ClassVar[int | None] = 512  # a book in pieces of a model's 8,192 is few examples

    @classmethod
    def example_count(cls, table: Any, text: Sequence[str], max_length: int | None) -> int:
        assert max_length is not None
        characters = _TOKEN_CHARACTERS * max_length
        return sum(math.ceil(len(str(cell)) / characters) for cell in table[text[0]])

    def encode(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """One example a piece of a text; none is truncated."""
        end = self.end_id(tokenizer)
        texts = open_ended(tokenizer, [str(text) for text in rows[self.text[0]]])
        close = [] if end is None else [end]
        pieces = [piece for ids in texts for piece in _pieces([*ids, *close], self.max_length)]
        return columns_of([(piece, piece) for piece in pieces], self.max_length)

    def prompts(self, tokenizer: Any, rows: Rows) -> dict[str, list[Any]]:
        """The texts, to be continued; truncated at their beginning."""
        texts = [str(text) for text in rows[self.text[0]]]
        return last_tokens(open_ended(tokenizer, texts), self.max_length)

    def references(self, rows: Rows) -> list[str]:
        return ["" for _ in rows[self.text[0]]]

    def prediction_rows(self, table: Any) -> Iterable[dict[str, Any]]:
        """None: a whole text has no completion that it could be compared with."""
        return []


def _pieces(ids: list[int], max_length: int) -> list[list[int]]:
    """
    >>> _pieces([1, 2, 3, 4, 5, 6], 4), _pieces([1], 4)
    ([[1, 2, 3, 4], [4, 5, 6]], [[1]])
    """
    starts = range(0, max(1, len(ids) - 1), max(1, max_length - 1))
    return [ids[start : start + max_length] for start in starts]
