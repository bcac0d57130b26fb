"""The padding token."""

from __future__ import annotations

from typing import Any


def with_pad_token(tokenizer: Any) -> Any:
    """The tokenizer, with EOS as padding token if it has none, as those of GPT-2 and Llama.

    Padding is masked, so any token does.
    """
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def padding_id(tokenizer: Any) -> int:
    """The id of the padding token; 0 for a tokenizer without padding and EOS tokens."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
