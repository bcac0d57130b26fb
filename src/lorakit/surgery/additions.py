"""Modules that are added beside a model's own, and called by the module that owns them.

The owner changes its class: a mixin in front of it calls the added child around the owner's own
forward. So every name and Parameter of the model stays, hooks run as before, and the model can be
copied and pickled. `Alteration.added` records it, and `detach` takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.composition import mix_in, mix_out
from lorakit.surgery.disabling import Disableable


@dataclass(frozen=True, eq=False)
class Addition:
    """A module to add as a child of another."""

    owner: nn.Module
    name: str
    """Of the child; the owner has no attribute of this name."""
    module: nn.Module
    mixin: type[Disableable]
    """A `Disableable`: it calls the original forward (or call) and the child, and the former alone
    where `self.is_off()`."""


def attach(additions: Iterable[Addition]) -> None:
    """Add each module and let its owner call it."""
    for addition in additions:
        altered(addition.owner).added[addition.name] = addition.mixin
        addition.owner.add_module(addition.name, addition.module)
        mix_in(addition.owner, addition.mixin)


def detach(module: nn.Module) -> None:
    """Remove what was added to this module; bears to run again."""
    record = alteration(module)
    for name, mixin in list(record.added.items()) if record is not None else ():
        mix_out(module, mixin)
        module._modules.pop(name, None)
        altered(module).added.pop(name, None)


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every module that something was added to."""
    for name, module in model.named_modules():
        record = alteration(module)
        if record is not None and record.added:
            yield name, module


def added_names(model: nn.Module) -> list[str]:
    """The full names of the tensors of what was added."""
    return [
        f"{owner}.{child}.{leaf}" if owner else f"{child}.{leaf}"
        for owner, module in owners(model)
        for child in altered(module).added
        for leaf in module.get_submodule(child).state_dict()
    ]
