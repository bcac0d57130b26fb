"""The padding token, one for the tokenizer and the model.

A decoder with a classification head finds the last token of a text as the last that is not its
config's `pad_token_id`, so it needs one, and the tokenizer's. Elsewhere padding is masked.
"""

from __future__ import annotations

from typing import Any

from lorakit.errors import ConfigError
from lorakit.tasks.base import Task


def settle_padding(tokenizer: Any, config: Any) -> None:
    """Give tokenizer and model config the same padding token.

    It is the tokenizer's, else the config's, else EOS (as for GPT-2 and Llama), else another
    special token; none if there is no special token.
    """
    config = config.get_text_config()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _pad_token(tokenizer, getattr(config, "pad_token_id", None))
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


def _pad_token(tokenizer: Any, model_id: int | None) -> str | None:
    """The token to pad with, for a tokenizer that names none."""
    own = model_id is not None and 0 <= model_id < len(tokenizer)
    of_model = tokenizer.convert_ids_to_tokens(model_id) if own else None
    candidates = [of_model, tokenizer.eos_token, *tokenizer.all_special_tokens]
    return next((token for token in candidates if token is not None), None)
