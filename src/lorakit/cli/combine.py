"""`lorakit combine ADAPTER=WEIGHT ... --output DIR`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.byte_bar import byte_bar
from lorakit.cli.derived_options import SIZE, Energy, Output, Overwrite, Rank
from lorakit.cli.output import Json, show


def combine(
    adapters: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER=WEIGHT...",
            help="Run directories or adapters (directory, file, hub id) with the weight of each.",
        ),
    ],
    output: Output,
    rank: Rank = None,
    energy: Energy = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="linear (the weighted sum), or ties, dare_linear, dare_ties, magnitude_prune, "
            "which act on each number of the updates and are cut to a rank.",
            rich_help_panel=SIZE,
        ),
    ] = "linear",
    density: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of each update that ties, dare and magnitude_prune keep.",
            show_default="0.2",
            rich_help_panel=SIZE,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of what dare keeps.", rich_help_panel=SIZE)
    ] = 0,
    overwrite: Overwrite = False,
    lora_alpha: options.Alpha = None,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Add adapters up with weights, as one adapter: exactly, or cut to a rank.

    Without --rank and --energy the sum is exact and has the sum of the ranks. The error is printed:
    that of the update of each module, and of all together. Heads, biases and rows of tokens can
    only be taken whole: they are the same in all that have them, and these weights add up to 1.

    Example: `lorakit combine runs/legal=0.7 runs/medical=0.3 --output ./both`

    Example: `lorakit combine a=1 b=1 --method ties --rank 32 --output ./merged`
    """
    from lorakit.algebra import combine as combined
    from lorakit.cli.weighted import parse_weighted
    from lorakit.derivation.derived import open_source, require_free, write_derived

    require_free(output, overwrite)
    terms = parse_weighted(adapters)
    sources = [open_source(str(name), lora_alpha, revision, subfolder) for name, _ in terms]
    bundles = [source.bundle for source in sources]
    weights = [weight for _, weight in terms]
    outcome = combined(
        list(zip(bundles, weights, strict=True)),
        rank,
        energy,
        method,
        density,
        seed,
        [str(name) for name, _ in terms],
        partial(byte_bar, what="combining"),
    )
    directories = [source.directory for source in sources]
    show(write_derived(outcome, directories, output), json)
