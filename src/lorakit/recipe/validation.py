"""Plain mappings become typed dataclasses; every mistake is collected, none is raised."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal

from lorakit.errors import LorakitError, suggest

LARGEST = 2**32
"""The size of the largest number in a recipe; seeds have 32 bits, everything else is smaller."""

_TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def build(cls: type[Any], mapping: Any, path: str, problems: list[str]) -> Any:
    """An instance of a dataclass, or None; problems are appended to `problems`.

    Values of the right type are checked by the class itself even if others are not.
    """
    if not isinstance(mapping, Mapping):
        named = path.rstrip(".") or "the recipe"
        problems.append(f"{named} is {mapping!r}; it must be a mapping of settings")
        return None
    hints = typing.get_type_hints(cls)
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


def is_in_size(value: Any) -> bool:
    """Whether this is no number, or one that is finite and not beyond `LARGEST`."""
    return not isinstance(value, int | float) or abs(value) <= LARGEST


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
    if isinstance(value, str | float) and not _fits(hint, value) and _fits(hint, [value]):
        value = [value]  # one column or one threshold may be written without brackets
    if not _fits(hint, value):
        problems.append(f"{path} is {value!r}; it must be {_type_text(hint)}")
    elif not is_in_size(value):
        problems.append(f"{path} is {value!r}; it must be a number of at most 2**32 in size")
    return tuple(value) if isinstance(value, list) else value


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, NoneType):
        return value is None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        plain = arguments[0] in (str, int, float)
        return isinstance(value, list | tuple) and (
            not plain or all(_fits(arguments[0], part) for part in value)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _type_text(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return " or ".join(_type_text(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if isinstance(origin, type):
        return "a mapping" if issubclass(origin, Mapping) else "a list"
    return _TYPE_NAMES.get(hint, "null")
