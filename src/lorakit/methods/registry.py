"""The methods of fine-tuning by name; `register` adds others."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from lorakit.errors import ConfigError, suggest
from lorakit.methods.adapter_drop import AdapterDrop
from lorakit.methods.applied import applied_to
from lorakit.methods.base import Method
from lorakit.methods.bitfit import BitFit
from lorakit.methods.full import Full
from lorakit.methods.head import Head
from lorakit.methods.houlsby import Houlsby
from lorakit.methods.last_layers import LastLayers
from lorakit.methods.lin import Lin
from lorakit.methods.lora import Lora
from lorakit.methods.lora_prefix import LoraPrefix
from lorakit.methods.pfeiffer import Pfeiffer
from lorakit.methods.prefix_embedding import PrefixEmbedding
from lorakit.methods.prefix_layer import PrefixLayer
from lorakit.surgery.wrappers import unwrapped

METHODS: dict[str, Method[Any]] = {}
"""In the order in which messages name them."""


def register(method: Method[Any]) -> None:
    """Register `method`, for recipes, `load_adapter` and the command line.

    Raises ConfigError if its name is taken.
    """
    if method.name in METHODS:
        raise ConfigError(f"A method named {method.name!r} is already registered.")
    METHODS[method.name] = method


def find(name: object) -> Method[Any]:
    """The method called `name`; raises ConfigError, with the nearest names, if there is none."""
    if problem := unknown(name):
        raise ConfigError("Unknown method:", [problem])
    return METHODS[str(name)]


def unknown(name: object) -> str | None:
    """The error message for an unknown method; None for a known one."""
    if isinstance(name, str) and name in METHODS:
        return None
    near = suggest(str(name), METHODS)
    return f"method is {name!r}; it must be one of {', '.join(METHODS)}{near}"


def with_adapters() -> str:
    """The names of the methods whose adapters can be initialized from those of another run."""
    return ", ".join(name for name, method in METHODS.items() if method.has_adapters)


def method_of(model: nn.Module) -> Method[Any] | None:
    """The method that prepared `model`; None for a plain one."""
    model = unwrapped(model)
    return next((method for method in METHODS.values() if method.is_applied(model)), None)


def extra_positions(model: nn.Module) -> int:
    """How many positions of the base the method that prepared `model` takes from the texts."""
    note = applied_to(unwrapped(model))
    return 0 if note is None else find(note.method).extra_positions(asdict(note.config))


for _method in (
    Lora(),
    Full(),
    Head(),
    BitFit(),
    LastLayers(),
    Houlsby(),
    Pfeiffer(),
    Lin(),
    AdapterDrop(),
    PrefixEmbedding(),
    PrefixLayer(),
    LoraPrefix(),
):
    register(_method)
