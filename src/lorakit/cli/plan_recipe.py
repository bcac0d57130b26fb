"""`lorakit plan RECIPE`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lorakit.recipe.data import Log
    from lorakit.recipe.schema import Recipe

_OF_A_RECIPE = {
    "batch": "training.total_batch",
    "length": "data.max_length",
    "dtype": "training.dtype",
    "checkpointing": "training.gradient_checkpointing",
    "token_budget": "training.token_budget",
    "revision": "revision",
}
"""Options by what a recipe has in their place."""
_TAKEN = (
    *("base", "method", "set_", "html", "overwrite", "json", "fit", "quantised"),
    *("devices", "parallel", "reshard_after_forward"),
)


def is_recipe(name: str) -> bool:
    """Whether the argument is a recipe's file, or the name of a shipped one and no directory."""
    from lorakit.foreign_files import local_path
    from lorakit.recipe_files import recipe_files

    place = local_path(name)
    return place.suffix in (".yaml", ".yml") or (not place.exists() and name in recipe_files())


def read_recipes(
    name: str, methods: Sequence[str], settings: Sequence[str], log: Log
) -> dict[str, Recipe]:
    """A recipe with each of these methods, or its own; of one with `adapters:` each adapter's.

    Raises ConfigError as `train` does.
    """
    from lorakit.errors import ConfigError
    from lorakit.recipe.adapter_recipes import adapter_recipes
    from lorakit.recipe.catalogue import recipe_file
    from lorakit.recipe.method_recipes import method_recipes
    from lorakit.recipe.schema import ADAPTERS
    from lorakit.recipe.yaml_file import load_recipe, with_settings

    mapping = with_settings(load_recipe(recipe_file(name)), settings)
    if ADAPTERS not in mapping:
        return method_recipes(mapping, methods, settings)
    if methods:
        raise ConfigError(f"--method is given, and {name} has a method for each of its adapters.")
    log("Each adapter by itself; in one run they share the base's frozen weights.")
    return dict(adapter_recipes(mapping, settings))


def require_no_settings(context: typer.Context) -> None:
    """Raise ConfigError for options that a recipe has settings for, or that have no effect."""
    from lorakit.errors import ConfigError

    if given := options_beside(context, _TAKEN):
        raise ConfigError(
            "With a recipe these options are its own settings, or have no effect:",
            [
                f"--{name.replace('_', '-')}"
                + (f"; set --set {_OF_A_RECIPE[name]}=..." if name in _OF_A_RECIPE else "")
                for name in given
            ],
        )


def options_beside(context: typer.Context, taken: Collection[str]) -> list[str]:
    """The options on the command line that are none of those that are taken."""
    return [name for name in context.params if name not in taken and _is_given(context, name)]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
