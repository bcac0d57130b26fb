"""`lorakit compare RUN ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli.output import Json, show


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run directories, or directories of them.")],
    reference: Annotated[
        list[str] | None, typer.Option(help="A result.json that was made elsewhere.")
    ] = None,
    json: Json = False,
) -> None:
    """Put finished runs side by side: metric, trainable parameters, bytes, seconds.

    Example: `lorakit compare runs/head runs/lora`
    """
    from lorakit.experiments.comparison import compare as compare_runs

    show(compare_runs(runs, reference or ()), json)
