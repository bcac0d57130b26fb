"""Lin's adapters: one in each layer, with a layer norm of its own (arXiv 2004.03829)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lorakit.layers.bottleneck import AdaptedOutput
from lorakit.methods.additive import Additive
from lorakit.methods.bottleneck import BottleneckConfig, adapter_at, blocks
from lorakit.methods.sublayers import sublayer
from lorakit.surgery.additions import Addition


@dataclass(frozen=True)
class LinConfig(BottleneckConfig):
    """Lin's adapters."""

    bottleneck: int = 16
    """How many dimensions an adapter's inner layer has."""


class Lin(Additive[LinConfig]):
    """The output x of every layer becomes x + W_up f(W_down n(x) + b_down) + b_up.

    n is a new layer norm, trained with the rest: L (2 d r + r + d) + 2 L d parameters for L layers
    of width d and a bottleneck of r. The AdapterL of the LoRA paper; as in the authors' code
    (github.com/zlinao/VGLM), with a relu, and an epsilon of 1e-5.
    """

    name = "lin"
    title = "adapters (Lin)"
    config_type = LinConfig

    def additions(self, model: nn.Module, config: LinConfig) -> Sequence[Addition]:
        layers = [sublayer(model, block, "layers_pattern", "") for block in blocks(model, config)]
        return [adapter_at(layer, config, AdaptedOutput, norm=True) for layer in layers]
