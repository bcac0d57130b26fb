"""The bases, tasks and methods of a sweep: what an entry of them says, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from lorakit.errors import suggest
from lorakit.experiments.sweep import Settings, Sweep, applies
from lorakit.field_types import fits, type_text
from lorakit.methods.registry import METHODS

_OWN = {
    "bases": ("base", "recipe"),
    "tasks": ("recipe", "metrics"),
    "methods": ("choose", "grid"),
}
"""What an entry may hold beside settings of recipes."""


@dataclass(frozen=True)
class Entry:
    """One base, task or method by its name in the sweep."""

    name: str
    settings: Settings
    """Of recipes, by dotted names."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """What is not a setting of recipes."""


@dataclass(frozen=True)
class Entries:
    """All of a sweep."""

    bases: tuple[Entry, ...]
    tasks: tuple[Entry, ...]
    methods: tuple[Entry, ...]
    """Each has `choose` and `grid`, with those of the sweep that mean anything to it."""


def entries_of(sweep: Sweep, problems: list[str]) -> Entries:
    """The entries of a sweep that can be read; what is wrong is appended to `problems`."""
    single = {PurePath(sweep.base).name: {"base": sweep.base}} if sweep.base else {}
    found = Entries(
        *(
            tuple(_entry(kind, name, value, problems) for name, value in values.items())
            for kind, values in (
                ("bases", single or sweep.bases),
                ("tasks", sweep.tasks),
                ("methods", sweep.methods),
            )
            if isinstance(values, Mapping)
        )
    )
    nameless = [base for base in found.bases if not isinstance(base.own.get("base"), str)]
    problems += [f"bases.{base.name}.base is missing; name a model" for base in nameless]
    problems += _setting_problems("settings", sweep.settings, _OF_METHODS)
    methods = [_method(sweep, entry, problems) for entry in found.methods]
    return Entries(
        tuple(base for base in found.bases if base not in nameless),
        found.tasks,
        tuple(method for method in methods if method is not None),
    )


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names, of which some may stand in sections.

    >>> flat({"lora": {"r": 4}, "training.seed": 1, "method": "lora"})
    {'lora.r': 4, 'training.seed': 1, 'method': 'lora'}
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        section = isinstance(value, Mapping) and "." not in name
        values |= {f"{name}.{leaf}": v for leaf, v in value.items()} if section else {name: value}
    return values


def _entry(kind: str, name: Any, value: Any, problems: list[str]) -> Entry:
    if value is not None and not isinstance(value, Mapping):
        problems.append(f"{kind}.{name} is {value!r}; it must be a mapping of settings")
    given = dict(value) if isinstance(value, Mapping) else {}
    own = {key: given.pop(key) for key in _OWN[kind] if key in given}
    for key, hint in (("recipe", str), ("metrics", Sequence[str])):
        if key in own and not fits(hint, own[key]):
            problems.append(f"{kind}.{name}.{key} is {own[key]!r}; it must be {type_text(hint)}")
    problems += _setting_problems(f"{kind}.{name}", given, {} if kind == "methods" else _OF_METHODS)
    return Entry(str(name), flat(given), own)


def _method(sweep: Sweep, entry: Entry, problems: list[str]) -> Entry | None:
    """The entry with the method's name, and all that it is chosen and varied by; None without."""
    method = entry.settings.get("method", entry.name)
    if method not in METHODS:
        problems.append(
            f"methods.{entry.name}: there is no method {method!r}{suggest(str(method), METHODS)}; "
            f"set method in it to one of {', '.join(METHODS)}"
        )
        return None
    own = {}
    for kind, given in (("choose", sweep.choose), ("grid", sweep.grid)):
        shared = _lists(kind, given, problems)
        special = _lists(f"methods.{entry.name}.{kind}", entry.own.get(kind), problems)
        fitting = {name: values for name, values in shared.items() if applies(name, str(method))}
        own[kind] = {**fitting, **special}
    for name in own["choose"].keys() & own["grid"].keys():
        problems.append(f"methods.{entry.name}: {name} is both in choose and in grid")
    return Entry(entry.name, {**entry.settings, "method": method}, own)


def _lists(place: str, value: Any, problems: list[str]) -> dict[str, list[Any]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.append(f"{place} is {value!r}; it must be a mapping of settings to lists")
        return {}
    found = flat(value)
    problems += [p for p in _setting_problems(place, value, _OF_METHODS) if p not in problems]
    for name, values in found.items():
        if not isinstance(values, list | tuple) or not values:
            problem = f"{place}.{name} is {values!r}; it must be a list of values"
        elif any(value in values[:count] for count, value in enumerate(values)):
            problem = f"{place}.{name} is {values!r}, which has a value twice"
        else:
            continue
        problems += [problem] if problem not in problems else []
    return {name: list(v) for name, v in found.items() if isinstance(v, list | tuple)}


_FIXED = {"output": "output", "base": "bases", "training.seed": "seeds", "tasks": "tasks"}
_OF_METHODS = {"method": "methods"}
"""What an entry of methods alone may set."""


def _setting_problems(place: str, settings: Any, more: Mapping[str, str]) -> list[str]:
    """What a sweep says elsewhere: one of `_FIXED`, or of `more`."""
    fixed = {**_FIXED, **more}
    return [
        f"{place}.{name} is set by the sweep's {fixed[name]}; leave it out"
        for name in flat(settings)
        if name in fixed
    ]
