"""A recipe's settings of methods: one section a method, under the method's name.

A file may have sections of methods other than its own, so that `--set method=head` alone switches
the method. Each is checked; one that only repeats its method's defaults is dropped, so that two
recipes that mean the same are equal. What is set for one run alone has to be of its method.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lorakit.errors import require
from lorakit.methods.registry import METHODS, find
from lorakit.recipe.validation import build


def read_sections(mapping: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The config of every method with a section; mistakes are appended to `problems`."""
    configs: dict[str, Any] = {}
    for name, method in METHODS.items():
        if name in mapping:
            section = mapping[name]
            given = _over(method.defaults, section)
            config = build(method.config_type, given, f"{name}.", problems)
            configs |= {} if config is None else {name: config}
    return configs


def without_effect(method: str, mapping: Mapping[str, Any], settings: Sequence[str]) -> list[str]:
    """What is set in vain: one of `settings` for another method, and a section that the method has
    a setting of its own for (`lora_prefix.lora`), where only that of the other method is given."""
    known = {spec.name for spec in fields(METHODS[method].config_type)}
    others = METHODS.keys() - {method}
    names = dict.fromkeys(setting.partition("=")[0] for setting in settings)
    problems = [
        f"{name} is set, and method is {method}; {_instead(method, known, name)}"
        for name in names
        if name.partition(".")[0] in others
    ]
    own = mapping.get(method)
    given = own if isinstance(own, Mapping) else {}
    return problems or [
        f"the section {name} is of another method, and that of {method} is {method}.{name}; "
        f"rename it, or give {method}.{name} too"
        for name in METHODS
        if name in mapping and name in known and name not in given
    ]


def _instead(method: str, known: Collection[str], name: str) -> str:
    """What to do about a setting of another method."""
    section, _, setting = name.partition(".")
    if section in known:
        return f"its own is {method}.{name}"
    other = f"set method={section}, or leave it out"
    return f"its own is {method}.{setting}, else {other}" if setting in known else other


def relevant_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The method's config, and other methods' configs that differ from their defaults.

    Raises ConfigError for an unknown method and for a config of another class than the method's.
    """
    defaults = {name: find(name).default_config() for name in [method, *settings]}
    configs = {method: defaults[method], **settings}
    require(
        {
            f"settings[{name!r}] is a {type(config).__name__}; it must be a "
            f"{type(default).__name__}": (isinstance(config, type(default)))
            for name, config in configs.items()
            for default in [defaults[name]]
        }
    )
    return {n: config for n, config in configs.items() if n == method or config != defaults[n]}


def _over(defaults: Mapping[str, Any], section: Any) -> Any:
    """The section, with the defaults of what it does not name, in its own sections too."""
    if not isinstance(section, Mapping):
        return section
    given = {
        name: _over(defaults[name], value) if isinstance(defaults.get(name), Mapping) else value
        for name, value in section.items()
    }
    return {**defaults, **given}
