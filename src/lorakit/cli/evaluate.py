"""`lorakit evaluate RUN|ADAPTER [--data FILE]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, Revision, quiet_libraries, show


def evaluate(
    source: options.Source,
    data: Annotated[
        str | None, typer.Option(help="CSV, TSV, JSONL or Parquet file; a run's own test rows.")
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
    """Say how good a run or an adapter is on labelled rows.

    Example: `lorakit evaluate runs/reviews --data new-reviews.csv`
    """
    from lorakit.tasks.tables import read_table
    from lorakit.training.inference import evaluate as evaluate_rows
    from lorakit.training.saved import open_saved, run_rows

    quiet_libraries(json)
    asked = options.ask(base, lora_alpha, revision, check_base, task, column, label, labels)
    saved = open_saved(source, asked)
    rows = run_rows(saved) if data is None else read_table(data, "test", saved.task.name)
    show(evaluate_rows(saved, rows, data or "its test rows", options.shows_progress(json)), json)
