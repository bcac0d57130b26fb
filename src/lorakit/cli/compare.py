"""`lorakit compare RUN ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli.output import Json, show


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Run directories, or directories of them.")
    ],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A result.json from elsewhere, as a further row; repeat it for several.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare finished runs in a table: metric, trainable parameters, size, seconds.

    The runs have to be of one task, or all of tasks of GLUE.

    Example: `lorakit compare runs/head runs/lora`
    """
    from lorakit.experiments.comparison import compare as compare_runs

    show(compare_runs(runs, reference or ()), json)
