"""`lorakit merge ADAPTER --base M --output DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli.output import Json, Revision, quiet_libraries, show


def merge(
    adapter: Annotated[str, typer.Argument(help="Directory, file or hub id of an adapter.")],
    output: Annotated[Path, typer.Option(help="Directory for the merged model.")],
    base: Annotated[
        str | None,
        typer.Option(help="Directory or hub id of the base; as the adapter says by default."),
    ] = None,
    lora_alpha: Annotated[
        float | None, typer.Option(help="For files that do not say it (loralib's).")
    ] = None,
    check_base: Annotated[
        bool, typer.Option(help="Refuse a base that the adapter was not trained on.")
    ] = True,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Load an adapter onto its base, make it part of the weights, and save a plain model.

    Example: `lorakit merge ./adapter --base FacebookAI/roberta-base --output ./merged`
    """
    from lorakit.models.merging import merge_to_directory

    quiet_libraries(json)
    report = merge_to_directory(
        adapter, base, output, lora_alpha=lora_alpha, check_base=check_base, revision=revision
    )
    show(report, json)
