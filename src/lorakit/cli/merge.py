"""`lorakit merge RUN|ADAPTER --output DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show


def merge(
    source: options.Source,
    output: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="New or empty directory for the merged model.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    json: Json = False,
) -> None:
    """Merge a run or an adapter into its base model, and save a plain transformers model.

    The output loads with `from_pretrained`, without lorakit or PEFT. Tokenizer, label names,
    padding and stop tokens are those of the adapter, else of the base.

    Example: `lorakit merge runs/reviews --output ./merged`
    """
    from lorakit.inference.merging import merge_to_directory

    quiet_libraries(json)
    report = merge_to_directory(
        source, base, output, lora_alpha=lora_alpha, check_base=check_base, revision=revision
    )
    show(report, json)
