"""Tied tensors for which a file has different values.

Such a file comes from a base without the tie, or from PEFT, whose `modules_to_save` copies an
embedding and a head separately although they share a weight. Each then trains by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.injection import trained_copies
from lorakit.injection.declared_ties import take_back_until_eject
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.layer_groups import group_layers
from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.parameters import parameter_like
from lorakit.surgery.ties import storage_key


def one_of_one_module(
    places: Mapping[str, Slot], values: Mapping[str, Tensor]
) -> list[tuple[str, str]]:
    """Different values for one module under two names, which cannot be untied."""
    return [
        (name, f"is {first} under another name, but the file has different values for them")
        for name, first in _conflicts(places, values)
        if places[name] == places[first]
    ]


def trained_as_one(
    places: Mapping[str, Slot], values: Mapping[str, Tensor]
) -> list[tuple[str, str]]:
    """Different values for tied tensors that a model trains as one already."""
    text = (
        "is trained as one with {}, to which it is tied, but the file has different values for "
        "them; call lorakit.eject first, and load_adapter then unties them"
    )
    return [
        (name, text.format(first))
        for name, first in _conflicts(places, values)
        if places[name] != places[first]
    ]


def untie(model: nn.Module, places: Mapping[str, Slot], values: Mapping[str, Tensor]) -> None:
    """Give each place that shares a tensor one of its own if its value differs from the first's.

    A transformers model no longer says that they are tied, until `eject`.
    """
    conflicts = list(_conflicts(places, values))
    for name, _ in conflicts:
        module, leaf = places[name]
        table = trained_copies.slot(module, leaf)
        table[leaf] = parameter_like(table[leaf], table[leaf].detach().clone())
        altered(module).apart |= {leaf}
    if conflicts:
        take_back_until_eject(model)


def require_apart(model: nn.Module) -> None:
    """Raises StateError that lists parameters that `untie` made two and that are one again."""
    sharing: dict[object, list[str]] = {}
    apart = {}
    for prefix, module in model.named_modules():
        record = alteration(module)
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                name = f"{prefix}.{leaf}" if prefix else leaf
                sharing.setdefault(storage_key(parameter), []).append(name)
                if record is not None and leaf in record.apart:
                    apart[name] = storage_key(parameter)
    problems = [
        (name, f"was loaded apart from {other}, and is tied to it again")
        for name, place in apart.items()
        for other in sharing[place]
        if other != name
    ]
    if problems:
        raise StateError(
            "One of the values that were loaded for tied weights is lost (by tie_weights, for "
            "instance); load the base and the adapter again:",
            group_layers(problems),
        )


def _conflicts(
    places: Mapping[str, Slot], values: Mapping[str, Tensor]
) -> Iterator[tuple[str, str]]:
    """(name, the first name of the same tensor) where their values differ."""
    firsts: dict[int, str] = {}
    for name, (module, leaf) in places.items():
        first = firsts.setdefault(id(trained_copies.slot(module, leaf)[leaf]), name)
        if not _equal(values[name], values[first]):
            yield name, first


def _equal(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.dtype == b.dtype and torch.equal(a, b))
