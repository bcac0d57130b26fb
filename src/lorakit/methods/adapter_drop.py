"""AdapterDrop: Pfeiffer's adapters without those of the first layers (arXiv 2010.11918)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lorakit.errors import TargetError, require
from lorakit.methods.additive import Additive
from lorakit.methods.blocks import Block, stacks
from lorakit.methods.pfeiffer import PfeifferConfig, pfeiffer_adapter
from lorakit.methods.shared_layers import require_own_layers
from lorakit.surgery.additions import Addition


@dataclass(frozen=True)
class AdapterDropConfig(PfeifferConfig):
    """AdapterDrop."""

    dropped: int | None = None
    """How many of the first layers have no adapter; of an encoder-decoder in each stack. None: 5 of
    12, as in the paper, in proportion, and at least 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        number = self.dropped
        whole = number is None or (type(number) is int and number >= 0)
        require({f"dropped is {number!r}; it must be a whole number, 0 or more": whole})

    def dropped_of(self, layers: int) -> int:
        """How many of so many layers."""
        return self.dropped if self.dropped is not None else max(1, layers * 5 // 12)


class AdapterDrop(Additive[AdapterDropConfig]):
    """As `Pfeiffer`, from layer `dropped` on: (L - dropped) (2 d r + r + d) parameters.

    Training and inference leave out the same layers: the paper's specialised AdapterDrop, not the
    robust one, which draws their number for every batch. Backward ends at the first adapter.
    """

    name = "adapter_drop"
    title = "AdapterDrop"
    config_type = AdapterDropConfig

    def additions(self, model: nn.Module, config: AdapterDropConfig) -> Sequence[Addition]:
        found, adapted = stacks(model, config.layers_pattern), list[Block]()
        blocks = [block for stack in found for block in stack.blocks]
        need = "adapter_drop leaves out the adapters of the first layers"
        require_own_layers(model, blocks, need, "pfeiffer, whose adapter such layers share too")
        for stack in found:
            dropped = config.dropped_of(len(stack.blocks))
            if dropped >= len(stack.blocks):
                raise TargetError(
                    f"dropped is {dropped}, but {stack.name} of {type(model).__name__} has "
                    f"{len(stack.blocks)} layers, and one of them has to keep its adapter."
                )
            adapted += stack.blocks[dropped:]
        return [pfeiffer_adapter(model, block, config) for block in adapted]
