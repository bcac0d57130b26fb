"""What a training step holds at the least, by formula: no forward runs, so no activation counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from lorakit.planner.recording import BASE, GRADIENTS, STATE, TRAINED
from lorakit.planner.step import make_state, state_tensors
from lorakit.text import size_text


def formula(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """The bytes of weights, gradients and the optimizer's state of a prepared fake model.

    The optimizer takes a step, with gradients that are the size of what trains.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    make_state(trained, optimizer)
    kept = {id(parameter) for parameter in trained}
    rest = (t for t in chain(model.parameters(), model.buffers()) if id(t) not in kept)
    return {
        BASE: _bytes(rest),
        TRAINED: _bytes(trained),
        GRADIENTS: _bytes(trained),
        STATE: _bytes(state_tensors(optimizer)),
    }


def formula_lines(sizes: Mapping[str, int]) -> list[str]:
    """The sizes as sentences, labelled as what they are."""
    return [
        *(f"{name}, by formula: {size_text(size)}" for name, size in sizes.items()),
        f"sum, by formula, without activations: {size_text(sum(sizes.values()))}",
    ]


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {id(s): s for s in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storage.nbytes() for storage in storages.values())
