"""Pfeiffer's adapters: one in each layer, after its MLP (arXiv 2005.00247)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lorakit.errors import TargetError
from lorakit.layers.bottleneck import AdaptedNorm, AdaptedOutput
from lorakit.methods.additive import Additive
from lorakit.methods.blocks import Block
from lorakit.methods.bottleneck import BottleneckConfig, adapter_at, blocks
from lorakit.methods.layouts import UNKNOWN, layout_of
from lorakit.methods.sublayers import sublayer
from lorakit.surgery.additions import Addition

PRE_LN = "pre-ln"
"""What `mlp_norm` says of a layer that has no norm there."""


@dataclass(frozen=True)
class PfeifferConfig(BottleneckConfig):
    """Pfeiffer's adapters."""

    bottleneck: int = 16
    """How many dimensions an adapter's inner layer has."""
    mlp_norm: str | None = None
    """The norm of the residual sum after the MLP, by its name in a layer; pre-ln for layers that
    normalise in front of their sublayers. None: that of a known layout."""


class Pfeiffer(Additive[PfeifferConfig]):
    """With s the residual sum after the MLP and n the norm of it, n(s) becomes n(s + delta(n(s))).

    delta(x) = W_up f(W_down x + b_down) + b_up; L (2 d r + r + d) parameters for L layers of width
    d and a bottleneck of r. A pre-LN layer has no norm of s: there s becomes s + delta(s). Both are
    what the LoRA paper's repository and the `adapters` library do, with a relu.
    """

    name = "pfeiffer"
    title = "adapters (Pfeiffer)"
    config_type = PfeifferConfig

    def additions(self, model: nn.Module, config: PfeifferConfig) -> Sequence[Addition]:
        return [pfeiffer_adapter(model, block, config) for block in blocks(model, config)]


def pfeiffer_adapter(model: nn.Module, block: Block, config: PfeifferConfig) -> Addition:
    """The adapter of one layer."""
    layout = layout_of(block.module)
    norm = config.mlp_norm or (layout.norm or PRE_LN if layout is not None else UNKNOWN)
    if norm == PRE_LN:
        return adapter_at(sublayer(model, block, "layers_pattern", ""), config, AdaptedOutput)
    if norm == UNKNOWN:
        parts = ", ".join(name for name, _ in block.module.named_modules() if name)
        raise TargetError(
            f"Whether {block.name} ({type(block.module).__name__}) is post-LN or pre-LN is not "
            f"known; name the norm of the residual sum after its MLP in mlp_norm, or set that to "
            f"{PRE_LN}. The block has {parts}."
        )
    return adapter_at(sublayer(model, block, "mlp_norm", norm), config, AdaptedNorm)
