"""What was changed on a module, kept on the module itself so that it can be undone.

One object a module, under one name in its `__dict__`: it is copied and pickled with the module, and
whoever undoes the change takes it away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

NAME = "_lorakit"


@dataclass(eq=False)
class Alteration:
    """All that is to be undone on one module, and what it belongs to."""

    original_class: type[nn.Module] | None = None
    """The class that it had; None if it was constructed as it is."""
    attributes: frozenset[str] = frozenset()
    """What was added to its `__dict__`."""
    originals: dict[str, Tensor] = field(default_factory=dict)
    """Its own parameters and buffers that wait beside a trained copy, by name."""
    ties: dict[str, Tensor] = field(default_factory=dict)
    """Its own parameters that share their memory with one of those, by name."""
    part_of: Any = None
    """What was done to the whole model, of which this is a part."""
    whole: Any = None
    """The same, on the model that it was done to."""
    method: Any = None
    """The method that prepared this model, and how."""
    training_start: dict[str, tuple[float, float]] | None = None
    """What its trainable parameters were when training began, in short."""


def alteration(module: nn.Module) -> Alteration | None:
    """What was changed on this very module."""
    found: Alteration | None = module.__dict__.get(NAME)
    return found


def altered(module: nn.Module) -> Alteration:
    """The same, to be filled in."""
    found: Alteration = module.__dict__.setdefault(NAME, Alteration())
    return found


def forget(module: nn.Module) -> None:
    """Nothing is left to undo."""
    module.__dict__.pop(NAME, None)
