"""A run whose adapter is there, to be used: the recipe that made it says its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorakit.errors import ConfigError, FormatError
from lorakit.foreign_files import local_path
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import ADAPTER, RECIPE, missing_adapter


@dataclass(frozen=True)
class FinishedRun:
    """The recipe and the adapter of a run."""

    recipe: Recipe
    adapter: Path


def finished_run(source: str, revision: str | None = None) -> FinishedRun | None:
    """The run in this directory; None for anything that is no run, such as an adapter alone.

    Raises ConfigError for a `revision`, which only an adapter on the Hub has, FormatError for a run
    without its adapter.
    """
    directory = local_path(source)
    if not (directory / RECIPE).is_file():
        return None
    if revision is not None:
        raise ConfigError(
            f"revision={revision!r} is for an adapter on the Hub, and {directory} is a run."
        )
    if not (directory / ADAPTER).is_dir():
        raise FormatError(missing_adapter(directory))
    return FinishedRun(from_mapping(load_recipe(directory / RECIPE)), directory / ADAPTER)
