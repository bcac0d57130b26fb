"""Layers that share their weights: one module that a forward runs in the place of several.

What is added to such a module, or trained in it, is of all of these layers. Methods that tell the
layers of a model apart need other models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from lorakit.errors import TargetError
from lorakit.methods.blocks import Block

_RUNS: Mapping[str, Callable[[Any], int]] = MappingProxyType(
    {
        "albert": lambda config: config.num_hidden_layers // config.num_hidden_groups,
        "perceiver": lambda config: config.num_blocks,
    }
)
"""How often a forward runs its whole stack, by the type of the model."""


def once(blocks: Iterable[Block]) -> list[Block]:
    """The first block of each module."""
    modules: dict[nn.Module, Block] = {}
    for block in blocks:
        modules.setdefault(block.module, block)
    return [*modules.values()]


def require_own_layers(model: nn.Module, blocks: Iterable[Block], need: str, instead: str) -> None:
    """Raise TargetError if one of these blocks stands for several layers of the model.

    `need` is what the method does with one layer, `instead` what else can be used.
    """
    config = getattr(model, "config", None)
    repeats = _RUNS.get(getattr(config, "model_type", ""), lambda config: 1)(config)
    blocks = list(blocks)
    times = Counter(block.module for block in blocks)
    for block in once(blocks):
        if (count := repeats * times[block.module]) > 1:
            raise TargetError(
                f"{need}, and layers of {type(model).__name__} share their weights: {block.name} "
                f"runs {count} times in a forward. Use {instead}."
            )
