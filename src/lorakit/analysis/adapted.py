"""The adapters of a live model, and the weights beside which they stand."""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.layers.conversion import lora_layers
from lorakit.variants import ModuleAdapter


def adapted_values(model: nn.Module) -> tuple[dict[str, ModuleAdapter], dict[str, Tensor]]:
    """Adapters and base weights of `model` by module name, which `analyze` takes; no copies."""
    layers = dict(lora_layers(model))
    adapters = {name: layer.adapter for name, layer in layers.items()}
    return adapters, {name: layer.base_weight for name, layer in layers.items()}
