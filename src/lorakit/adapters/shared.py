"""The adapter of another model of the same base, to be one of a set's as well."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lorakit.adapters.by_row import require_by_row
from lorakit.adapters.entry import Entry, Parts
from lorakit.adapters.layouts import mixed_up
from lorakit.errors import StateError, TargetError
from lorakit.injection import trained_copies
from lorakit.layer_groups import group_layers
from lorakit.layers.conversion import base_weight, lora_layers
from lorakit.layers.readers import reader_of
from lorakit.layers.refusals import refusal
from lorakit.variants import ModuleAdapter, ParameterSite, RowsSite


def parts_of(source: nn.Module, model: nn.Module) -> Parts:
    """What `source`, adapted by inject, trains, for the modules of the same names of `model`.

    Nothing is copied. Raises StateError if that is nothing, and TargetError that lists what does
    not fit these modules, or cannot differ from row to row of a batch.
    """
    adapters = {name: layer.adapter for name, layer in lora_layers(source)}
    own = trained_copies.values(source)
    if not adapters and not own:
        raise StateError(
            f"This {type(source).__name__} has no adapter to share; call lorakit.inject first."
        )
    if misplaced := _misplaced(model, adapters, own):
        here, there = type(model).__name__, type(source).__name__
        raise TargetError(f"What the {there} trains has no place in this {here}:", misplaced)
    slots = {
        f"{n}.{leaf}": (model.get_submodule(n), leaf) for n, part in own.items() for leaf in part
    }
    message = "These are one for all rows of a batch, so adapters cannot train there together:"
    require_by_row(model, slots, adapters, message)
    problems = []
    for name, adapter in adapters.items():
        if (reader := reader_of(model, name)) is not None:
            problems.append((name, f"has its weight read by {type(reader).__name__}"))
        elif isinstance(adapter.site, RowsSite):
            problems.append((name, "has rows of tokens that train"))
    names = dict.fromkeys([*adapters, *own])
    problems += [(name, why) for name in names if (why := mixed_up(model, name)) is not None]
    if problems:
        raise TargetError(message, group_layers(problems))
    return {name: Entry(adapters.get(name), own.get(name, {}), trains=True) for name in names}


def _misplaced(
    model: nn.Module,
    adapters: Mapping[str, ModuleAdapter],
    own: Mapping[str, Mapping[str, Tensor]],
) -> list[str]:
    """What of these does not fit the modules of the same names, with why."""
    modules = dict(model.named_modules(remove_duplicate=False))
    reasons = [(name, _misfit(modules.get(name), adapter)) for name, adapter in adapters.items()]
    problems = [(name, why) for name, why in reasons if why is not None]
    for name, part in own.items():
        for leaf, tensor in part.items():
            module = modules.get(name, nn.Module())
            here = module._parameters.get(leaf, module._buffers.get(leaf))
            shapes = tuple(tensor.shape), None if here is None else tuple(here.shape)
            if shapes[0] != shapes[1]:
                found = f"and {shapes[1] or 'none'} in this model"
                problems.append((f"{name}.{leaf}", f"has the shape {shapes[0]}, {found}"))
    return group_layers(problems)


def _misfit(module: nn.Module | None, adapter: ModuleAdapter) -> str | None:
    """Why this module cannot have an adapter; of a parameter by itself none can, see `by_row`."""
    site = adapter.site
    if site is None or isinstance(site, ParameterSite):
        return None
    if module is None:
        return "is no module of this model"
    if (reason := refusal(module, isinstance(site, RowsSite))) is not None:
        return reason
    here = tuple(base_weight(module).shape)
    expected = tuple(site.weight_shape)
    return None if here == expected else f"is for a weight of {expected}, and this model has {here}"
