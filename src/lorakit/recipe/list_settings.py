"""Settings that take a list, which the command line writes with commas.

data.text=question,context               ["question", "context"]
data.text="name, first",context          ["name, first", "context"]
lora.target_modules=query,value          ["query", "value"]
lora.target_modules=.*\\.(query|value)    a regular expression
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from lorakit.field_types import fits
from lorakit.methods.registry import METHODS, find
from lorakit.recipe.schema import Recipe


def takes_list(name: str) -> bool:
    """Whether the value of a setting, by its dotted name, may be a list.

    >>> takes_list("data.text"), takes_list("lora.target_modules"), takes_list("training.seed")
    (True, True, False)
    >>> takes_list("lora_prefix.lora.target_modules")
    True
    """
    section, _, leaf = name.rpartition(".")
    kind = _section(section)
    hint = typing.get_type_hints(kind).get(leaf) if kind is not None else None
    return hint is not None and any(fits(hint, [value] * 2) for value in ("", 0, 0.5))


def _section(name: str) -> type[Any] | None:
    """The class of a section's settings, or of a section in it, if there is such a section."""
    if name in METHODS:
        return type(find(name).default_config())
    outer, _, inner = name.rpartition(".")
    around = _section(outer) if outer else Recipe
    kind = None if around is None else typing.get_type_hints(around).get(inner)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None
