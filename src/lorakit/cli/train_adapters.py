"""`lorakit train` of a recipe with `adapters:`: several runs at once over one base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from lorakit.cli.output import INTERRUPTED, line_log, print_error, show

if TYPE_CHECKING:
    from lorakit.recipe.schema import Recipe
    from lorakit.runs.directory import RunResult


def train_adapters(recipes: Mapping[str, Recipe], dry_run: bool, as_json: bool) -> None:
    """Train them all, or show what each would do; and print what came of it."""
    from lorakit.training.together import train_together

    if dry_run:
        _show_previews(recipes, as_json)
        return
    try:
        results = train_together(recipes, log=line_log(as_json))
    except KeyboardInterrupt:
        print_error("Interrupted; the same command resumes all runs.", as_json)
        raise typer.Exit(INTERRUPTED) from None
    show({n: asdict(r) for n, r in results.items()} if as_json else _closing(results), as_json)


def _show_previews(recipes: Mapping[str, Recipe], as_json: bool) -> None:
    from lorakit.cli.preview import print_preview
    from lorakit.training.preview import preview
    from lorakit.training.together import require_shareable

    require_shareable(recipes)
    found = {name: preview(recipe) for name, recipe in recipes.items()}
    if as_json:
        show({name: asdict(each) for name, each in found.items()}, as_json)
        return
    for name, each in found.items():
        print(f"\n{name}, by itself:")
        print_preview(each)


def _closing(results: Mapping[str, RunResult]) -> str:
    """The end of the output for people: a line of metrics for each, and where its adapter is."""
    from lorakit.runs.directory import ADAPTER
    from lorakit.text import table

    rows = [
        (name, f"{result.steps:,} steps", *(f"{m} {v:.4g}" for m, v in result.metrics.items()))
        for name, result in results.items()
    ]
    width = max(map(len, rows))
    places = [f"{result.output}/{ADAPTER}" for result in results.values()]
    padded = ([*row, *[""] * (width - len(row))] for row in rows)
    lines = table([*row, place] for row, place in zip(padded, places, strict=True))
    return "\n".join(["", *lines])
