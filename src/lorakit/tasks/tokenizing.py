"""One text or a pair of texts as the tokenizer gives them, truncated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.base import TRUNCATED, Rows


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
    require_room(tokenizer.num_special_tokens_to_add(pair=len(columns) == 2), max_length)
    encoded = dict(tokenizer(*columns, truncation=True, max_length=max_length))
    return {**encoded, TRUNCATED: _truncated(tokenizer, columns, encoded["input_ids"], max_length)}


def require_room(special: int, max_length: int) -> None:
    """Raise ConfigError if the special tokens of an example leave no room for a text."""
    if max_length <= special:
        raise ConfigError(
            f"data.max_length is {max_length}, and the tokenizer adds {special} special tokens to "
            f"each example; set it above {special}."
        )


def _truncated(
    tokenizer: Any, columns: Sequence[list[str]], ids: Sequence[list[int]], max_length: int
) -> list[int]:
    """How many tokens were cut off; only texts that fill the limit are tokenized once more."""
    full = [row for row, row_ids in enumerate(ids) if len(row_ids) >= max_length]
    truncated = [0] * len(ids)
    if full:
        texts = [[column[row] for row in full] for column in columns]
        for row, whole in zip(full, tokenizer(*texts, verbose=False)["input_ids"], strict=True):
            truncated[row] = max(0, len(whole) - max_length)
    return truncated
