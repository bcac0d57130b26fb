"""The token that fills up the shorter rows of a batch."""

from __future__ import annotations

from typing import Any


def with_pad_token(tokenizer: Any) -> Any:
    """The tokenizer, which pads with its end of text if it has no token for that.

    Padding is masked, so any token does; GPT-2's and Llama's have none of their own.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def padding_id(tokenizer: Any) -> int:
    """The id that rows are filled up with; 0 for a tokenizer that has not even an end of text."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
