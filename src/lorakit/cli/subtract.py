"""`lorakit subtract BASE ADAPTER --output DIR`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.byte_bar import byte_bar
from lorakit.cli.output import Json, quiet_libraries, show


def subtract(
    base: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Model that the adapter was merged into: directory or hub id."
        ),
    ],
    adapter: options.Source,
    output: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="New or empty directory for the model without it.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    max_shard_size: options.MaxShardSize = None,
    overwrite: options.ReplaceModel = False,
    json: Json = False,
) -> None:
    """Take an adapter off a model that it was merged into, from file to file.

    The update is subtracted in float32 and rounded once, tensor by tensor. What rounding left of it
    is printed; the model before merging is found up to that. DoRA, heads, biases and rows of tokens
    cannot be taken off.

    Example: `lorakit subtract ./merged ./adapter --output ./base`
    """
    from lorakit.config.sizes import size_of
    from lorakit.merging import subtract as subtracted

    quiet_libraries(json)
    largest = None if max_shard_size is None else size_of("--max-shard-size", max_shard_size)
    found = subtracted(
        base,
        adapter,
        output,
        lora_alpha=lora_alpha,
        revision=revision,
        subfolder=subfolder,
        max_shard_size=largest,
        overwrite=overwrite,
        bar=partial(byte_bar, what="subtracting"),
    )
    show(found.report if json else found, json)
