"""What virtual tokens begin as: random words of the base, from torch's own generator.

A prefix that begins as words, or as what the layers make of words, trains faster and to a better
end than one of random numbers (arXiv 2104.08691, section 3.2; arXiv 2101.00190, section 7.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import TargetError
from lorakit.functional.initialise import adapter_dtype
from lorakit.methods.blocks import Stack
from lorakit.methods.prefixes.prefixed_layer import STATES


def word_embeddings(embeddings: nn.Embedding, count: int) -> Tensor:
    """What the embeddings give for random words: (V, d), in at least float32."""
    with torch.no_grad():
        return _master(embeddings(_words(embeddings, count)))


def word_activations(backbone: Any, embeddings: nn.Embedding, stack: Stack, count: int) -> Tensor:
    """The inputs of each layer for a text of random words: (V, L d), in at least float32.

    Raises TargetError for layers that are not called as those of a transformer.
    """
    if embeddings.weight.is_meta:  # it has shapes alone
        width = len(stack.blocks) * backbone.config.hidden_size
        return torch.empty(count, width, device="meta")
    ids = _words(embeddings, count)
    seen: dict[str, Tensor] = {}
    with _recorded(stack, seen), _evaluating(backbone), torch.no_grad():
        backbone(input_ids=ids[None])
    if missing := [block.name for block in stack.blocks if block.name not in seen]:
        raise TargetError(
            f"These layers of {type(backbone).__name__} are not called with hidden states of "
            f"shape (batch, length, width), so none can be trained: {', '.join(missing)}."
        )
    return torch.cat([seen[block.name] for block in stack.blocks], 1)


def _master(values: Tensor) -> Tensor:
    return values.detach().to(adapter_dtype(values.dtype), copy=True)


def _words(embeddings: nn.Embedding, count: int) -> Tensor:
    """The ids of random tokens of the vocabulary."""
    ids = torch.randint(embeddings.num_embeddings, (count,), device="cpu")
    return ids.to(embeddings.weight.device)


@contextmanager
def _recorded(stack: Stack, seen: dict[str, Tensor]) -> Iterator[None]:
    """Inside, the input of each block is kept, of the first call of one that is called again."""
    hooks = [
        block.module.register_forward_pre_hook(_recorder(block.name, seen), with_kwargs=True)
        for block in stack.blocks
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _recorder(name: str, seen: dict[str, Tensor]) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states = args[0] if args else kwargs.get(STATES)
        if isinstance(states, Tensor) and states.ndim == 3:
            seen.setdefault(name, _master(states[0]))

    return record


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, without dropout."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
