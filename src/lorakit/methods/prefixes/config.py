"""The settings of methods with virtual tokens."""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.config.values import is_whole
from lorakit.errors import require
from lorakit.methods.saved_modules import MethodConfig


@dataclass(frozen=True)
class PrefixConfig(MethodConfig):
    """How many virtual tokens there are, and how they are trained."""

    prefix: int = 16
    """How many virtual tokens stand before the prompt; of an encoder-decoder before its input."""
    infix: int = 0
    """How many stand after the prompt, before the completion; in an encoder after the text."""
    reparametrisation: int | None = None
    """Width of the network that computes the virtual tokens while they train (512 in Li and Liang's
    paper); it is no part of what is saved in the end. None: they are trained themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(prefix_problems(self.prefix, self.infix, self.reparametrisation))


@dataclass(frozen=True)
class PrefixLayerConfig(PrefixConfig):
    """How many virtual tokens there are, and in which layers."""

    layers_pattern: str | None = None
    """The ModuleList of the layers, by name or dotted suffix. None: found by its structure."""


def prefix_problems(prefix: object, infix: object, width: object) -> dict[str, bool]:
    """What may be wrong with these settings, and whether each is right."""
    counts = {"prefix": prefix, "infix": infix}
    whole = {
        f"{name} is {count!r}; it must be a whole number of at least 0": is_whole(count, 0)
        for name, count in counts.items()
    }
    none = "prefix and infix are both 0; one of them must be at least 1"
    network = f"reparametrisation is {width!r}; it must be a whole number of at least 1, or none"
    return whole | {
        none: prefix != 0 or infix != 0,
        network: width is None or is_whole(width, 1),
    }
