"""A recipe file for several adapters of one base: what they share, and what each has of its own.

    base: sentence-transformers/all-MiniLM-L6-v2
    data: { train: reviews.csv }
    output: runs/reviews
    adapters:
      small: { lora.r: 2 }
      large: { lora.r: 16, training.learning_rate: 1e-3 }

Each is a recipe of its own, with the output `runs/reviews/small`, `runs/reviews/large`. Settings
are under dotted names, as for `--set`, or in sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.errors import ConfigError
from lorakit.recipe.dotted_names import dotted
from lorakit.recipe.schema import ADAPTERS, Recipe, from_mapping
from lorakit.recipe.yaml_file import with_settings, with_values
from lorakit.text import repeated

_OF_THE_FILE = ("output", ADAPTERS)
"""Settings of the whole file, which are not set again for each adapter."""


def adapter_recipes(mapping: Mapping[str, Any], settings: Sequence[str] = ()) -> dict[str, Recipe]:
    """The checked recipe of each adapter in a file; `settings` such as `a.b=value` are for all.

    Raises ConfigError that lists every mistake; one that all adapters make is listed once.
    """
    own = mapping[ADAPTERS]
    if not isinstance(own, Mapping) or not own:
        raise ConfigError(
            f"{ADAPTERS} is {own!r}; it must be a mapping of names to settings, such as "
            "small: {lora.r: 2}."
        )
    common = {key: value for key, value in mapping.items() if key != ADAPTERS}
    for_all = [
        text for text in settings if text.partition("=")[0].split(".")[0] not in _OF_THE_FILE
    ]
    recipes: dict[str, Recipe] = {}
    problems: dict[str, list[str]] = {}
    for name, changes in own.items():
        try:
            recipes[name] = _recipe(common, name, changes, for_all)
        except ConfigError as error:
            for problem in error.problems or [str(error)]:
                problems.setdefault(problem, []).append(str(name))
    if problems:
        raise ConfigError(
            "This recipe cannot be run:",
            [
                problem if len(names) == len(own) else f"{ADAPTERS}.{', '.join(names)}: {problem}"
                for problem, names in problems.items()
            ],
        )
    return recipes


def _recipe(common: Mapping[str, Any], name: Any, changes: Any, settings: Sequence[str]) -> Recipe:
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ConfigError(f"the name {name!r} names no directory; its run is in output/NAME")
    if not isinstance(changes, Mapping):
        raise ConfigError(f"its settings are {changes!r}; they must be a mapping, or {{}}")
    output = common.get("output")
    here = {**common, "output": f"{output}/{name}"} if isinstance(output, str) else common
    own = list(dotted(changes))
    if again := repeated([name for name, _ in own]):
        raise ConfigError(f"it has {again} twice")
    return from_mapping(with_settings(with_values(here, dict(own)), settings), settings)
