"""A recipe's settings of methods: a section for each, under the method's name.

A file may have sections of methods that it does not choose, so that `--set method=head` is all it
takes to compare. Each is checked; one that only repeats its method's defaults says nothing and is
left out, so two recipes that mean the same are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.errors import require
from lorakit.methods.registry import METHODS, find
from lorakit.recipe.validation import build


def read_sections(mapping: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The config of every method that the recipe has a section of; mistakes go to `problems`."""
    configs = {}
    for name, method in METHODS.items():
        if name in mapping:
            section = mapping[name]
            given = {**method.defaults, **section} if isinstance(section, Mapping) else section
            configs[name] = build(method.config_class, given, f"{name}.", problems)
    return configs


def kept(chosen: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The chosen method's config, and those of others that are not their defaults.

    Raises ConfigError for an unknown method and for a config of another class than the method's.
    """
    defaults = {name: find(name).default_config() for name in [chosen, *settings]}
    configs = {chosen: defaults[chosen], **settings}
    require(
        {
            f"settings[{name!r}] is a {type(config).__name__}, no {type(default).__name__}": (
                isinstance(config, type(default))
            )
            for name, config in configs.items()
            for default in [defaults[name]]
        }
    )
    return {n: config for n, config in configs.items() if n == chosen or config != defaults[n]}
