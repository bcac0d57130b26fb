"""A recipe's settings of methods: one section a method, under the method's name.

A file may have sections of methods other than its own, so that `--set method=head` alone switches
the method. Each is checked; one that only repeats its method's defaults is dropped, so that two
recipes that mean the same are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
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
