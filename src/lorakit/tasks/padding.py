"""The padding token, one for the tokenizer and the model.

A decoder with a classification head finds the last token of a text as the last that is not its
config's `pad_token_id`, so it needs one, and the tokenizer's. RoBERTa and its relatives count
positions from the padding token that they were built with. Elsewhere padding is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import ConfigError
from lorakit.tasks.base import Task


def settle_padding(tokenizer: Any, model: Any) -> None:
    """Give the tokenizer and the model's config the same padding token.

    It is that of the model's positions, else the tokenizer's, else the config's, else EOS (as for
    GPT-2 and Llama), else another special token; none if there is no special token.
    """
    config = model.config.get_text_config()
    built_with = _token(tokenizer, _padding_of_positions(model))
    if built_with is not None:
        tokenizer.pad_token = built_with
    elif tokenizer.pad_token_id is None:
        of_config = _token(tokenizer, getattr(config, "pad_token_id", None))
        candidates = [of_config, tokenizer.eos_token, *tokenizer.all_special_tokens]
        tokenizer.pad_token = next((t for t in candidates if t is not None), None)
    if tokenizer.pad_token_id is not None:
        config.pad_token_id = tokenizer.pad_token_id


def require_padding(tokenizer: Any, task: Task) -> None:
    """Raise ConfigError for a tokenizer that cannot pad; text generation masks any id."""
    if tokenizer.pad_token_id is None and not task.generates:
        raise ConfigError(
            "The tokenizer has no padding token, and no other special token that could take its "
            f"place, so the task {task.name} cannot compute texts in batches; set pad_token in its "
            "tokenizer_config.json to a token that no text ends with."
        )


def padding_id(tokenizer: Any) -> int:
    """The id that fills up a batch under the mask: the padding token's, or 0 without one."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def _padding_of_positions(model: Any) -> int | None:
    """The padding id from which a table of positions counts; None if none does."""
    paddings = (
        getattr(module, "padding_idx", None)
        for name, module in model.named_modules()
        if "position" in name
    )
    return next((padding for padding in paddings if padding is not None), None)


def _token(tokenizer: Any, token_id: int | None) -> str | None:
    """The token of this id; None if the tokenizer has none."""
    if token_id is None or not 0 <= token_id < len(tokenizer):
        return None
    token: str | None = tokenizer.convert_ids_to_tokens(token_id)
    return token


def padded(rows: Sequence[Sequence[int]], fill: int, left: bool = False) -> Tensor:
    """The rows as one tensor (B, T), filled up on the right or on the left.

    >>> padded([[1, 2], [3]], 0).tolist(), padded([[1, 2], [3]], 0, left=True).tolist()
    ([[1, 2], [3, 0]], [[1, 2], [0, 3]])
    """
    longest = max(map(len, rows))
    gaps = [[fill] * (longest - len(row)) for row in rows]
    pairs = zip(rows, gaps, strict=True)
    return torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in pairs])
