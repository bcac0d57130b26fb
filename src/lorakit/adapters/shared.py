"""The adapter of another model of the same base, to be one of a set's as well."""

from __future__ import annotations

from torch import nn

from lorakit.adapters.by_row import require_by_row
from lorakit.adapters.entry import Entry, Parts
from lorakit.adapters.layouts import mixed_up
from lorakit.errors import TargetError
from lorakit.injection import trained_copies
from lorakit.layer_groups import group_layers
from lorakit.layers.conversion import lora_layers
from lorakit.layers.readers import reader_of
from lorakit.variants import RowsSite


def parts_of(source: nn.Module, model: nn.Module) -> Parts:
    """What `source`, adapted by inject, trains, for the modules of the same names of `model`.

    Nothing is copied. Raises TargetError for what cannot differ from row to row of a batch.
    """
    adapters = {name: layer.adapter for name, layer in lora_layers(source)}
    own = trained_copies.values(source)
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
