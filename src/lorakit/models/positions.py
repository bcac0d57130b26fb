"""How many tokens a model reads at once."""

from __future__ import annotations

from typing import Any

from torch import nn

from lorakit.models.loading import load_config, meta_model

UNLIMITED = 1 << 20
"""The sequence length used for no limit."""


def length_limit(name: str, revision: str | None = None) -> int | None:
    """The maximum sequence length by the model's positions; None where its config states no limit.

    RoBERTa and its relatives count positions from the padding's index + 1 on, so that they never
    use the first rows of their table: of 514 positions 512 are left.

    Raises FormatError if there is no such model.
    """
    states_one = _stated_positions(load_config(name, revision)) is not None
    return position_limit(meta_model(name, revision)) if states_one else None


def position_limit(model: Any) -> int | None:
    """`length_limit` of a model, on any device."""
    limit = _stated_positions(model.config)
    if limit is None:
        return None
    tables = [
        module
        for path, module in model.named_modules()
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    used = [t.num_embeddings - t.padding_idx - 1 for t in tables if t.padding_idx is not None]
    return min([limit, *used])


def _stated_positions(config: Any) -> int | None:
    """Those of the text, of a config with several parts."""
    return stated_limit(getattr(config.get_text_config(), "max_position_embeddings", None))


def stated_limit(length: float | None) -> int | None:
    """A maximum length as a config states it; None for no limit, which is -1 in XLNet's."""
    return int(min(length, UNLIMITED)) if length is not None and length > 0 else None
