"""A new adapter, which is to be trained: Parameters that a set owns."""

from __future__ import annotations

import torch
from torch import nn

from lorakit.adapters.loaded import Parts
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError
from lorakit.injection.selection.matching import select
from lorakit.injection.selection.selected import Target
from lorakit.layers.conversion import base_weight
from lorakit.variants import ModuleAdapter
from lorakit.variants.registry import find


def fresh(model: nn.Module, config: LoraConfig) -> Parts:
    """The adapters that `config` selects in a model, newly initialised, by module name.

    Raises TargetError as `lorakit.inject` does, and ConfigError for what trains in full or by row,
    which a set does not train.
    """
    if config.modules_to_save or config.bias != "none" or config.trainable_token_indices:
        raise ConfigError(
            "An AdapterSet trains A and B alone: modules_to_save, bias and trainable_token_indices "
            "cannot be added to one. Train such an adapter with lorakit.inject, and load it."
        )
    selection = select(model, config)
    return {target.name: (_initial(target), {}) for target in selection.targets}


def _initial(target: Target) -> ModuleAdapter:
    spec, variant = target.spec, find(target.spec.variant)
    with torch.no_grad():
        values = variant.initial(target.site, base_weight(target.module).detach(), spec)
    tensors = {
        name: nn.Parameter(value.contiguous(), name not in variant.frozen)
        for name, value in values.items()
    }
    return ModuleAdapter(spec, tensors, target.site)
