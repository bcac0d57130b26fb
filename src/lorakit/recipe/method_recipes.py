"""One recipe with each of several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.methods.registry import METHODS
from lorakit.recipe.schema import Recipe, from_mapping


def method_recipes(
    mapping: Mapping[str, Any], methods: Sequence[str], settings: Sequence[str] = ()
) -> dict[str, Recipe]:
    """The checked recipe that `mapping` says by its method, or with each of these by its name.

    `settings`, such as `lora.r=4`, are those in it that were given for this: each has to be of one
    of the methods. What only adapters have is left out with a method without. Raises ConfigError
    as `from_mapping` does.
    """
    if not methods:
        recipe = from_mapping(mapping, settings)
        return {recipe.method: recipe}
    return {
        name: from_mapping(
            _with_method(mapping, name), [s for s in settings if _may_be_of(s, name, methods)]
        )
        for name in methods
    }


def _with_method(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    changed = {**mapping, "method": name}
    if name in METHODS and not METHODS[name].has_adapters and name != mapping.get("method", "lora"):
        changed.pop("init_adapter", None)
        if isinstance(training := changed.get("training"), Mapping):
            changed["training"] = {k: v for k, v in training.items() if k != "loraplus_lr_ratio"}
    return changed


def _may_be_of(setting: str, method: str, methods: Sequence[str]) -> bool:
    return setting.partition(".")[0] not in {*methods} - {method}
