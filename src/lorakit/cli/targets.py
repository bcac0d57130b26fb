"""`lorakit targets MODEL`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show


def targets(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="transformers model: directory or hub id.")
    ],
    rank: Annotated[
        int,
        typer.Option("--rank", "-r", metavar="R", min=1, help="Rank to count parameters for."),
    ] = 8,
    revision: options.ModelRevision = None,
    json: Json = False,
) -> None:
    """List the layers of a model that LoRA can adapt: names, count, shape, LoRA parameters.

    Needs only the model's config; weights are not downloaded.

    Example: `lorakit targets FacebookAI/roberta-base --rank 8`
    """
    from lorakit.injection.selection.catalogue import targets as find
    from lorakit.models.loading import meta_model

    quiet_libraries(json)
    show(find(meta_model(model, revision), rank), json)
