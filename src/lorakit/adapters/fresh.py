"""A new adapter, which is to be trained: Parameters that a set owns."""

from __future__ import annotations

from collections.abc import Iterable

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
    adapters = {target.name: _initial(target) for target in selection.targets}
    own = _copies(model, selection.trained)
    names = dict.fromkeys([*adapters, *own])
    return {name: Entry(adapters.get(name), own.get(name, {}), trains=True) for name in names}


def _copies(model: nn.Module, slots: Iterable[Slot]) -> dict[str, dict[str, Tensor]]:
    """Trainable copies of these tensors, in at least float32, by module."""
    names = {id(module): name for name, module in model.named_modules()}
    found = {f"{names[id(module)]}.{leaf}": (module, leaf) for module, leaf in slots}
    require_by_row(model, found, "An AdapterSet cannot train these, one for each adapter:")
    own: dict[str, dict[str, Tensor]] = {}
    for module, leaf in found.values():
        original = module.get_parameter(leaf).detach()
        copy = nn.Parameter(original.clone().to(adapter_dtype(original.dtype)))
        own.setdefault(names[id(module)], {})[leaf] = copy
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
