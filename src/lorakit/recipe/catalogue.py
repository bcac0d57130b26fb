"""The recipes that come with the package: YAML files in `recipes/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, suggest
from lorakit.foreign_files import local_path
from lorakit.recipe.yaml_file import load_recipe
from lorakit.recipe_files import recipe_files
from lorakit.text import table


@dataclass(frozen=True)
class ShippedRecipe:
    """One shipped recipe."""

    name: str
    base: str
    method: str
    about: str
    """The first comment of the file."""
    file: str


@dataclass(frozen=True)
class ShippedRecipes:
    """All shipped recipes."""

    recipes: tuple[ShippedRecipe, ...]

    def __str__(self) -> str:
        rows = [(r.name, r.method, r.base, r.about) for r in self.recipes]
        return "\n".join(table([("name", "method", "base", "about"), *rows]))


def shipped_recipes() -> ShippedRecipes:
    """Every recipe that is shipped, by name."""
    return ShippedRecipes(tuple(_summary(file) for file in recipe_files().values()))


def recipe_file(name: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that is shipped.

    Raises ConfigError, with the nearest names, if there is neither.
    """
    path, files = local_path(name), recipe_files()
    if path.is_file():
        return path
    if str(name) in files:
        return files[str(name)]
    near = suggest(str(name), files)
    raise ConfigError(
        f"{name} is neither a file nor a shipped recipe{near}; the shipped recipes are "
        f"{', '.join(files) or 'none'}."
    )


def _summary(file: Path) -> ShippedRecipe:
    recipe: dict[str, Any] = load_recipe(file)
    first = file.read_text(encoding="utf-8").splitlines()[0]
    about = first.removeprefix("#").strip() if first.startswith("#") else ""
    name = next(name for name, path in recipe_files().items() if path == file)
    return ShippedRecipe(
        name, str(recipe.get("base")), str(recipe.get("method", "lora")), about, str(file)
    )
