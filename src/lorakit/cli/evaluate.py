"""`lorakit evaluate RUN|ADAPTER [--data FILE]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, Revision, quiet_libraries, show


def evaluate(
    source: options.Source,
    data: Annotated[
        str | None,
        typer.Option(help="CSV, TSV, JSONL or Parquet file; GLUE's folder."),
    ] = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    column: options.Column = None,
    label: options.Label = None,
    labels: options.Labels = None,
    check_base: options.CheckBase = True,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Say how good a run or an adapter is on labelled rows: by default a run's own test rows.

    Example: `lorakit evaluate runs/reviews --data new-reviews.csv`
    """
    from lorakit.inference.prediction import evaluate_tables
    from lorakit.inference.session import held_out_tables, open_session

    quiet_libraries(json)
    asked = options.ask(base, lora_alpha, revision, check_base, task, column, label, labels)
    saved = open_session(source, asked)
    tables = held_out_tables(saved, data)
    origin = data or ("its test rows" if saved.recipe is not None else str(saved.spec.hub))
    show(evaluate_tables(saved, tables, origin, options.shows_progress(json)), json)
