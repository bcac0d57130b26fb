"""`lorakit merge ADAPTER[=WEIGHT] ... --base DIR --output DIR`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.byte_bar import byte_bar
from lorakit.cli.output import Json, quiet_libraries, show


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|ADAPTER[=WEIGHT]...",
            help="Run directory, or an adapter: directory, file, hub id, or name from "
            "`lorakit checkpoints list`; several, each with a weight, for their weighted sum.",
        ),
    ],
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
    subfolder: options.Subfolder = None,
    max_shard_size: options.MaxShardSize = None,
    overwrite: options.ReplaceModel = False,
    json: Json = False,
) -> None:
    """Merge adapters into the checkpoint of their base, from file to file.

    The model is never built: the base is read and written tensor by tensor, in little memory, with
    float32 arithmetic and one rounding. The output loads with `from_pretrained`, without lorakit or
    PEFT. Tokenizer, labels, padding and stop tokens are those of the adapter, else of the base.

    Example: `lorakit merge runs/reviews --output ./merged`
    """
    from lorakit.cli.weighted import parse_weighted
    from lorakit.config.sizes import size_of
    from lorakit.merging import merge_files

    quiet_libraries(json)
    largest = None if max_shard_size is None else size_of("--max-shard-size", max_shard_size)
    report = merge_files(
        parse_weighted(sources),
        base,
        output,
        lora_alpha=lora_alpha,
        check_base=check_base,
        revision=revision,
        subfolder=subfolder,
        max_shard_size=largest,
        overwrite=overwrite,
        bar=partial(byte_bar, what="merging"),
    )
    show(report, json)
