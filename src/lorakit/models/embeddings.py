"""The output of a transformers model's embeddings, edited on its way into the first layer.

Where a model has a module of embeddings (tokens + positions + types, normalised), it is that
module's output; where the token embedding stands in the model itself, as in most decoders, it is
the output of that. Of an encoder-decoder, the encoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lorakit.errors import ConfigError, StateError

Edit = Callable[[Tensor], Tensor]
"""Embeddings (B, T, H) to edited embeddings."""


def embedding_module(model: Any) -> nn.Module:
    """The module whose output is the embeddings; raises ConfigError where there is none."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    words: nn.Module | None
    try:
        words = body.get_input_embeddings()
    except NotImplementedError:
        words = None
    for module in body.modules():
        if words is not None and any(child is words for child in module.children()):
            return words if isinstance(module, PreTrainedModel) else module
    raise ConfigError(
        f"{type(model).__name__} has no token embeddings, which this loss.kind edits; use "
        "loss.kind rdrop or plain."
    )


@contextmanager
def second_half_edited(
    model: nn.Module, embeddings: nn.Module, ids: Tensor, edit: Edit
) -> Iterator[None]:
    """Inside, the embeddings of the second half of the examples go through `edit`.

    `ids` (B, T) are the tokens of the forward. Only the first call of the embeddings counts: T5's
    decoder looks into the same table. Raises StateError if no forward has called them.
    """
    calls = 0

    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return None
        states, *rest = output if isinstance(output, tuple) else (output,)
        dim = int(_tokens_come_first(arguments, ids))
        first, second = states.chunk(2, dim)
        changed = edit(second.transpose(0, dim)).transpose(0, dim)
        states = torch.cat([first, changed], dim)
        return (states, *rest) if isinstance(output, tuple) else states

    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if not calls:
        raise StateError(
            f"{type(model).__name__} did not call its token embeddings in its forward, so "
            "loss.kind had no effect; use loss.kind rdrop or plain."
        )


def _tokens_come_first(arguments: tuple[Any, ...], ids: Tensor) -> bool:
    """Whether the embeddings got the tokens as (T, B), as XLNet's do."""
    given = arguments[0] if arguments else None
    if not isinstance(given, Tensor) or torch.equal(given, ids):
        return False
    return torch.equal(given, ids.T)
