"""`lorakit extract BASE TUNED --output DIR --rank R|--energy SHARE`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli.byte_bar import byte_bar
from lorakit.cli.derived_options import SIZE, Energy, Output, Overwrite, Rank
from lorakit.cli.output import Json, quiet_libraries, show


def extract(
    base: Annotated[
        Path, typer.Argument(metavar="BASE", help="Directory of the model before tuning.")
    ],
    tuned: Annotated[
        Path, typer.Argument(metavar="TUNED", help="Directory of the model after tuning.")
    ],
    output: Output,
    rank: Rank = None,
    energy: Energy = None,
    keep_rest: Annotated[
        bool,
        typer.Option(
            "--keep-rest",
            help="Save whole what changed and has no low rank: embeddings, norms, biases, a head.",
            rich_help_panel=SIZE,
        ),
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find the adapter that is nearest to what full fine-tuning changed.

    Both are directories of transformers models (safetensors or .bin, in shards or not), and are
    read tensor by tensor. Each linear layer and stack of experts whose weight changed gets an
    adapter; the error of each and of all together is printed.

    Example: `lorakit extract ./base ./tuned --rank 16 --output ./adapter`

    Example: `lorakit extract ./base ./tuned --energy 0.9 --keep-rest --output ./adapter`
    """
    from lorakit.derivation.derived import require_free, write_derived
    from lorakit.derivation.extraction import extract as extracted

    require_free(output, overwrite)
    quiet_libraries(json)
    outcome = extracted(base, tuned, rank, energy, keep_rest, partial(byte_bar, what="extracting"))
    show(write_derived(outcome, [tuned], output), json)
