"""Plain mappings become typed dataclasses; every mistake is collected, none is raised."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from lorakit.errors import LorakitError, suggest
from lorakit.field_types import fits, type_text

LARGEST = 2**32
"""The size of the largest number in a recipe; seeds have 32 bits, everything else is smaller."""


def build(cls: type[Any], mapping: Any, path: str, problems: list[str]) -> Any:
    """An instance of a dataclass, or None; problems are appended to `problems`.

    Values of the right type are checked by the class itself even if others are not.
    """
    if not isinstance(mapping, Mapping):
        named = path.rstrip(".") or "the recipe"
        problems.append(f"{named} is {mapping!r}; it must be a mapping of settings")
        return None
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes a class for unhashable
    known = {spec.name: spec for spec in dataclasses.fields(cls)}
    before = len(problems)
    problems += unknown_names(mapping, known, path)
    values, missing = {}, False
    for name, spec in known.items():
        count = len(problems)
        if name in mapping:
            value = _value(hints[name], mapping[name], f"{path}{name}", problems)
        elif spec.default is spec.default_factory is dataclasses.MISSING:
            problems.append(f"{path}{name} is missing")
        else:
            continue
        if len(problems) == count:
            values[name] = value
        else:
            missing |= spec.default is spec.default_factory is dataclasses.MISSING
    instance = None if missing else _made(cls, values, path, problems)
    return instance if len(problems) == before else None


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """The types of a class's fields, which take longer to find than all else of a recipe."""
    return typing.get_type_hints(cls)


def _oversized(value: Any, path: str) -> list[str]:
    """The numbers that are not finite or are beyond `LARGEST`, alone or in mappings, by path."""
    if isinstance(value, Mapping):
        return [p for name, part in value.items() for p in _oversized(part, f"{path}.{name}")]
    if not isinstance(value, int | float) or abs(value) <= LARGEST:
        return []
    return [f"{path} is {value!r}; it must be a number of at most 2**32 in size"]


def unknown_names(mapping: Mapping[Any, Any], known: Collection[str], path: str) -> list[str]:
    """The unknown names of a section, each with the nearest known ones."""
    return [
        f"unknown setting {path}{name}{_nearest(str(name), known)}"
        for name in mapping
        if name not in known
    ]


def _nearest(name: str, known: Collection[str]) -> str:
    """The names that begin with `name`, else those that are near it, else all of them."""
    longer = [other for other in known if other.startswith(f"{name}_")]
    if longer:
        return f" (did you mean {', '.join(map(repr, longer))}?)"
    return suggest(name, known) or f"; the settings are {', '.join(known)}"


def _made(cls: type[Any], values: dict[str, Any], path: str, problems: list[str]) -> Any:
    try:
        return cls(**values)
    except LorakitError as error:
        problems += [f"{path}{problem}" for problem in error.problems] or [str(error)]
        return None


def _value(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{path}.", problems)  # type: ignore[arg-type]
    if isinstance(value, str | float) and not fits(hint, value) and fits(hint, [value]):
        value = [value]  # one column or one threshold may be written without brackets
    if not fits(hint, value):
        problems.append(f"{path} is {value!r}; it must be {type_text(hint)}")
    else:
        problems += _oversized(value, path)
    return tuple(value) if isinstance(value, list) else value
