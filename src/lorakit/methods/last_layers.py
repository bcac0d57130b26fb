"""Full fine-tuning of the last layers, the FT-Top2 of the paper (arXiv 2106.09685, table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lorakit.config.values import is_whole
from lorakit.errors import TargetError, require
from lorakit.methods.blocks import last_stack
from lorakit.methods.saved_modules import MethodConfig
from lorakit.methods.selective import Selective
from lorakit.methods.shared_layers import require_own_layers


@dataclass(frozen=True)
class LastLayersConfig(MethodConfig):
    """Which layers are trained."""

    count: int = 2
    """How many layers are trained, from the last one on; of an encoder-decoder the decoder's."""
    layers_pattern: str | None = None
    """The ModuleList of the layers, by name or dotted suffix. None: found by its structure."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problem = f"count is {self.count!r}; it must be a whole number of at least 1"
        require({problem: is_whole(self.count, 1)})


class LastLayers(Selective[LastLayersConfig]):
    """Every tensor of the last `count` layers is trained, in a copy."""

    name = "last_layers"
    title = "last layers"
    config_type = LastLayersConfig
    rate = 0.2
    needs = "layers"

    def names(self, model: nn.Module, config: LastLayersConfig) -> Sequence[str]:
        stack = last_stack(model, config.layers_pattern)
        need = "last_layers trains the last layers and freezes those before"
        require_own_layers(model, stack.blocks, need, "full or lora")
        if config.count > len(stack.blocks):
            raise TargetError(
                f"count is {config.count}, but {stack.name} of {type(model).__name__} has "
                f"{len(stack.blocks)} layers."
            )
        return [
            f"{block.name}.{leaf}"
            for block in stack.blocks[-config.count :]
            for leaf in block.module.state_dict()
        ]
