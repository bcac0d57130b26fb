"""One base, task or method of a sweep by its name: what it says, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorakit.experiments.sweep import Settings
from lorakit.field_types import fits, type_text
from lorakit.recipe.dotted_names import dotted

LISTS = ("choose", "grid")
"""Of methods: values of which the best is chosen, and of which each is a row."""
LIKE = "like"
_OWN: dict[str, dict[str, Any]] = {
    "bases": {"base": str, "recipe": str},
    "tasks": {"recipe": str, "metrics": Sequence[str]},
    "methods": {LIKE: str},
}
"""What an entry may hold beside settings of recipes; those of methods also `LISTS`."""
_FIXED = {
    "output": "output",
    "base": "bases",
    "task": "tasks",
    "tasks": "tasks",
    "method": "methods",
    "training.seed": "seeds",
}
"""Settings of recipes, by what of the sweep sets them."""
_MAY_SET = {"tasks": "task", "methods": "method"}
"""The one of them that an entry of these may have."""


@dataclass(frozen=True)
class Entry:
    """One base, task or method by its name in the sweep."""

    name: str
    settings: Settings
    """Of recipes, by dotted names."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """What is not a setting of recipes."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where in the sweep each setting stands, also those that are chosen or varied."""


def named(kind: str, entries: Any, problems: list[str]) -> dict[str, Mapping[str, Any]]:
    """What entries say, by their names, of which YAML reads some as numbers."""
    found: dict[str, Mapping[str, Any]] = {}
    given = entries if isinstance(entries, Mapping) else dict.fromkeys(entries)
    for name, value in given.items():
        if name is None or not str(name).strip():
            problems.append(f"{kind} has {name!r}, which is no name; name each of them")
            continue
        if str(name) in found:
            problems.append(f"{kind} has {name} twice")
        if value is not None and not isinstance(value, Mapping):
            problems.append(f"{kind}.{name} is {value!r}; it must be a mapping of settings")
        found[str(name)] = value if isinstance(value, Mapping) else {}
    return found


def read_entry(kind: str, name: str, value: Mapping[str, Any], problems: list[str]) -> Entry:
    """The entry of this name among bases, tasks or methods, without the lists of a method."""
    place, types = f"{kind}.{name}", _OWN[kind]
    own = {key: value[key] for key in types if key in value}
    for key in [key for key in own if not fits(types[key], own[key])]:
        problems.append(f"{place}.{key} is {own.pop(key)!r}; it must be {type_text(types[key])}")
    known = (*types, *LISTS) if kind == "methods" else types
    given = {key: part for key, part in value.items() if key not in known}
    settings = read_settings(place, given, problems, _MAY_SET.get(kind))
    return Entry(name, settings, own, below(place, settings))


def read_settings(
    place: str, given: Mapping[Any, Any], problems: list[str], may: str | None = None
) -> dict[str, Any]:
    """The settings by dotted names, without those of `_FIXED` but for the one that may be there."""
    found: dict[str, Any] = {}
    strings = {name: value for name, value in given.items() if isinstance(name, str)}
    nameless = [name for name in given if name not in strings]
    for name, value in dotted(strings):
        if not all(name.split(".")):
            nameless.append(name)
        elif name in _FIXED and name != may:
            problems.append(f"{place}.{name} is set by the sweep's {_FIXED[name]}; leave it out")
        elif name in found:
            problems.append(f"{place} has {name} twice")
        else:
            found[name] = value
    problems += [f"{place} has {name!r}, which is not the name of a setting" for name in nameless]
    return found


def below(place: str, settings: Settings) -> dict[str, str]:
    """The place of each setting in a mapping at `place`."""
    return {name: f"{place}.{name}" for name in settings}
