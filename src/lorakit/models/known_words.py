"""Whether a tokenizer knows the words that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lorakit.errors import FormatError

_MADE_UP = 1
"""Tokens beside the special ones, at most, of a tokenizer that transformers made without files:
SentencePiece's mark of a word. Tokenizers of bytes, which have no files, have 255 and more."""


def require_words(tokenizer: Any, name: object) -> None:
    """Raise FormatError for a tokenizer that has nothing but special tokens.

    Without a vocabulary in the directory transformers makes such a one, and every word is unknown.
    """
    if len(tokenizer.get_vocab()) - len(set(tokenizer.all_special_ids)) <= _MADE_UP:
        raise FormatError(
            f"{name} has no tokenizer: its vocabulary is empty but for special tokens. Add the "
            "tokenizer's files, such as tokenizer.json and tokenizer_config.json, from where the "
            "model is from."
        )


def unknown_text(tokenizer: Any, ids: Iterable[Any], name: str) -> str | None:
    """A sentence if most tokens of these rows are the unknown token; None if they are not.

    Special tokens do not count; a row may be a list of rows.
    """
    unknown = tokenizer.unk_token_id
    if unknown in (None, tokenizer.bos_token_id, tokenizer.eos_token_id):  # GPT-2's are one
        return None
    special = set(tokenizer.all_special_ids) - {unknown}
    words = missed = 0
    for row in _flat(ids):
        words += len(row) - sum(map(row.count, special))
        missed += row.count(unknown)
    if missed * 2 <= words:
        return None
    return (
        f"{missed / words:.0%} of the tokens of {name} are unknown to the tokenizer "
        f"({tokenizer.unk_token}), so the model cannot tell one from another; is it made for this "
        "language and alphabet?"
    )


def _flat(rows: Iterable[Any]) -> Iterator[list[int]]:
    for row in rows:
        if row and isinstance(row[0], list):
            yield from _flat(row)
        else:
            yield row
