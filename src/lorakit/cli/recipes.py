"""`lorakit recipes list|show`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import completion
from lorakit.cli.output import Json, show

app = typer.Typer(
    help="List and print the recipes that come with lorakit.\n\n"
    "Example: `lorakit recipes show reviews`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the recipes that `lorakit train NAME` runs, with method and base model.

    Example: `lorakit recipes list`
    """
    from lorakit.recipe.catalogue import shipped_recipes

    show(shipped_recipes(), json)


@app.command("show")
def show_(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name from `lorakit recipes list`.",
            autocompletion=completion.recipes,
        ),
    ],
    json: Json = False,
) -> None:
    """Print a recipe as YAML, to edit it and train with it.

    Example: `lorakit recipes show reviews > my.yaml`
    """
    from lorakit.recipe.catalogue import recipe_file
    from lorakit.recipe.yaml_file import load_recipe

    file = recipe_file(name)
    content = load_recipe(file)
    show(content if json else file.read_text(encoding="utf-8").rstrip(), json)
