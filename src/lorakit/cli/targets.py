"""`lorakit targets MODEL`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli.output import Json, Revision, quiet_libraries, show


def targets(
    model: Annotated[str, typer.Argument(help="Directory or hub id of a transformers model.")],
    rank: Annotated[int, typer.Option("--rank", "-r", min=1, help="Count parameters at it.")] = 8,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Show what could be adapted: layers by suffix, count, shape, parameters.

    Reads the config only, not the weights.

    Example: `lorakit targets FacebookAI/roberta-base --rank 8`
    """
    from lorakit.injection.selection.catalogue import targets as find
    from lorakit.models.loading import skeleton

    quiet_libraries(json)
    show(find(skeleton(model, revision), rank), json)
