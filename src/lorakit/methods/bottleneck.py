"""What the methods with bottleneck adapters share: their settings, and how one is added."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lorakit.config.values import is_whole
from lorakit.errors import require
from lorakit.functional.bottleneck import ACTIVATIONS
from lorakit.layers.bottleneck import CHILD, Bottleneck
from lorakit.methods.blocks import Block, stacks
from lorakit.methods.saved_modules import MethodConfig
from lorakit.methods.shared_layers import once
from lorakit.methods.sublayers import Sublayer
from lorakit.surgery.additions import Addition
from lorakit.surgery.disabling import Disableable


@dataclass(frozen=True)
class BottleneckConfig(MethodConfig):
    """The settings of every method with bottleneck adapters."""

    bottleneck: int = 8
    """How many dimensions an adapter's inner layer has."""
    activation: str = "relu"
    """The nonlinearity in an adapter: relu, gelu, gelu_new, silu (or swish) or tanh."""
    layers_pattern: str | None = None
    """The ModuleList of the layers, by name or dotted suffix. None: found by its structure."""

    def __post_init__(self) -> None:
        super().__post_init__()
        size, names = self.bottleneck, ", ".join(ACTIVATIONS)
        require(
            {
                f"bottleneck is {size!r}; it must be a whole number of at least 1": is_whole(
                    size, 1
                ),
                f"activation is {self.activation!r}; it must be one of {names}": self.activation
                in ACTIVATIONS,
            }
        )


def blocks(model: nn.Module, config: BottleneckConfig) -> list[Block]:
    """The blocks of every stack of the model, each once, as layers may be one module."""
    found = [block for stack in stacks(model, config.layers_pattern) for block in stack.blocks]
    return once(found)


def adapter_at(
    place: Sublayer, config: BottleneckConfig, mixin: type[Disableable], norm: bool = False
) -> Addition:
    """A new adapter behind this sublayer, with a layer norm of its own in front if `norm`."""
    weight = next(place.block.module.parameters())
    adapter = Bottleneck(place.width, config.bottleneck, config.activation, norm, weight)
    return Addition(place.module, CHILD, adapter, mixin)
