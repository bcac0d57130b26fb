"""Whether values of a file have the types of a dataclass's fields, and the types in words."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal

_TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}


def field_problems(
    cls: type[Any], content: Mapping[str, Any], required: Collection[str] | None = None
) -> list[str]:
    """The fields that are missing or of another type; `required` are those without a default."""
    hints = _hints(cls)
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    if required is None:
        missing = dataclasses.MISSING
        required = [n for n, s in specs.items() if s.default is s.default_factory is missing]
    problems = [f"{name} is missing" for name in required if name not in content]
    return problems + [
        f"{name} is {content[name]!r}; it must be {type_text(hints[name])}"
        for name in specs
        if name in content and name in hints and not fits(hints[name], content[name])
    ]


def fits(hint: Any, value: Any) -> bool:
    """Whether a value of JSON or YAML is of this type; the parts of a list or mapping as well."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(fits(argument, value) for argument in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, NoneType):
        return value is None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        plain = arguments[1] in _PLURALS
        return isinstance(value, Mapping) and (
            not plain or all(fits(arguments[1], part) for part in value.values())
        )
    if isinstance(origin, type) and issubclass(origin, Sequence):
        plain = arguments[0] in _PLURALS
        return isinstance(value, list | tuple) and (
            not plain or all(fits(arguments[0], part) for part in value)
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def type_text(hint: Any) -> str:
    """The type in words, as in "it must be a number or null"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        plural = _PLURALS.get(arguments[1])
        return f"a mapping of names to {plural}" if plural else "a mapping"
    if isinstance(origin, type):
        plural = _PLURALS.get(arguments[0])
        return f"a list of {plural}" if plural else "a list"
    return _TYPE_NAMES.get(hint, "null")


def _hints(cls: type[Any]) -> dict[str, Any]:
    """The types of those fields whose kind a file of JSON can hold."""
    try:
        hints = typing.get_type_hints(cls)
    except NameError:  # a class of a user's, with a type that only type checkers import
        return {}
    return {name: hint for name, hint in hints.items() if _is_known(hint)}


def _is_known(hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return all(map(_is_known, arguments))
    if isinstance(origin, type):
        return issubclass(origin, Mapping | Sequence)
    return origin is Literal or hint is NoneType or hint in _TYPE_NAMES
