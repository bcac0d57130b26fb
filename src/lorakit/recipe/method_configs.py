"""The configs of several methods by their names, from settings such as `lora.r=4`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorakit.errors import ConfigError
from lorakit.methods.registry import METHODS, unknown
from lorakit.recipe.method_sections import read_sections
from lorakit.recipe.validation import unknown_names
from lorakit.recipe.yaml_file import with_settings


def method_configs(names: Sequence[str], settings: Sequence[str] = ()) -> dict[str, Any]:
    """The config of each method by its name; `settings` are such as `houlsby.bottleneck=64`.

    Raises ConfigError that lists unknown methods, settings of others, and mistakes in settings.
    """
    sections = with_settings({}, settings)
    problems = [problem for name in names if (problem := unknown(name))]
    problems += unknown_names(sections, names, "")
    configs = read_sections(sections, problems)
    if problems:
        raise ConfigError("These methods cannot be used:", problems)
    return {name: configs.get(name) or METHODS[name].default_config() for name in names}
