"""A new adapter, which is to be trained: Parameters that a set owns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lorakit.adapters.by_row import require_by_row
from lorakit.adapters.entry import Entry, Parts
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError
from lorakit.functional.initialise import adapter_dtype
from lorakit.injection.selection.matching import select
from lorakit.injection.selection.selected import Target
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.layers.conversion import base_weight
from lorakit.variants import ModuleAdapter
from lorakit.variants.registry import find


def fresh(model: nn.Module, config: LoraConfig) -> Parts:
    """What `config` selects in a model, by module name: new adapters, and copies of whole modules.

    Raises TargetError as `lorakit.inject` does, and for modules whose tensors cannot differ from
    row to row; ConfigError for biases and rows of tokens, which a set does not train.
    """
    if config.bias != "none" or config.trainable_token_indices:
        raise ConfigError(
            "An AdapterSet trains A and B, and modules in full: bias and trainable_token_indices "
            "cannot be added to one. Train such an adapter with lorakit.inject, and load it."
        )
    selection = select(model, config)
    names = {id(module): name for name, module in model.named_modules()}
    slots = {f"{names[id(module)]}.{leaf}": (module, leaf) for module, leaf in selection.trained}
    targets = {target.name: target for target in selection.targets}
    message = "An AdapterSet cannot train these, one for each adapter:"
    require_by_row(model, slots, targets, message)
    adapters = {name: _initial(target) for name, target in targets.items()}
    own = _copies(slots)
    both = dict.fromkeys([*adapters, *own])
    return {name: Entry(adapters.get(name), own.get(name, {}), trains=True) for name in both}


def _copies(slots: Mapping[str, Slot]) -> dict[str, dict[str, Tensor]]:
    """Trainable copies of these tensors, in at least float32, by module."""
    own: dict[str, dict[str, Tensor]] = {}
    for name, (module, leaf) in slots.items():
        original = module.get_parameter(leaf).detach()
        copy = nn.Parameter(original.clone().to(adapter_dtype(original.dtype)))
        own.setdefault(name.rpartition(".")[0], {})[leaf] = copy
    return own


def _initial(target: Target) -> ModuleAdapter:
    spec, variant = target.spec, find(target.spec.variant)
    with torch.no_grad():
        values = variant.initial(target.site, base_weight(target.module).detach(), spec)
    tensors = {
        name: nn.Parameter(value.contiguous(), name not in variant.frozen)
        for name, value in values.items()
    }
    return ModuleAdapter(spec, tensors, target.site)
