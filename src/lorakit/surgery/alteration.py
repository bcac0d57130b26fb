"""A record of what was changed on a module, kept on the module so that it can be undone.

One object per module, in its `__dict__`: it is copied and pickled with the module, and removed when
the change is undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

NAME = "_lorakit"


@dataclass(eq=False)
class Alteration:
    """Everything to undo on one module."""

    original_class: type[nn.Module] | None = None
    """The class before; None if the class was not changed."""
    attributes: frozenset[str] = frozenset()
    """Names that were added to its `__dict__`."""
    originals: dict[str, Tensor] = field(default_factory=dict)
    """Its own parameters and buffers that a trained copy replaces, by name."""
    ties: dict[str, Tensor] = field(default_factory=dict)
    """Its own parameters that are tied to one of those, by name."""
    rounded: dict[str, torch.dtype] = field(default_factory=dict)
    """Its own parameters that read in another dtype than they are stored in; `rounded_reads`."""
    added: dict[str, type[nn.Module]] = field(default_factory=dict)
    """Modules that were added as its children, by name, and the mixins that call them."""
    part_of: Any = None
    """The injection of which this module is a part."""
    injection: Any = None
    """The injection, on the model that was injected."""
    shared: Any = None
    """The set whose adapters run in this module; it has none of its own."""
    method: Any = None
    """The method that prepared this model, and its config."""
    training_start: dict[str, list[float]] | None = None
    """A digest of each trainable parameter when training began, by name."""
    apart: frozenset[str] = frozenset()
    """Its own parameters that were tied to others until a file had different values for them."""
    declared_ties: tuple[bool, Mapping[str, str]] | None = None
    """What it said of its ties before; `injection.declared_ties`. None if nothing was changed."""


def alteration(module: nn.Module) -> Alteration | None:
    """The record of this module; None if nothing was changed on it."""
    found: Alteration | None = module.__dict__.get(NAME)
    return found


def altered(module: nn.Module) -> Alteration:
    """The record of this module, created if there is none."""
    found: Alteration = module.__dict__.setdefault(NAME, Alteration())
    return found


def forget(module: nn.Module) -> None:
    """Remove the record."""
    module.__dict__.pop(NAME, None)
