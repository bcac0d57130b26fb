"""Options of the commands that make an adapter from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorakit.cli import options

SIZE = "Size"

Output = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Directory for the new adapter.", rich_help_panel=options.OUTPUT
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace an adapter in that directory.", rich_help_panel=options.OUTPUT
    ),
]
Rank = Annotated[
    int | None, typer.Option(metavar="R", help="Rank of every module.", rich_help_panel=SIZE)
]
Energy = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of each module's squared norm that its own rank keeps, such as 0.99.",
        rich_help_panel=SIZE,
    ),
]
