"""`lorakit evaluate RUN|ADAPTER [--data FILE]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show


def evaluate(
    source: options.Source,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Labelled rows: CSV, TSV, JSONL or Parquet file, data set on the Hub, or GLUE's "
            "folder.",
            show_default="the run's test set, or GLUE's dev set",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    column: options.Column = None,
    label: options.Label = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    labels: options.Labels = None,
    thresholds: options.Thresholds = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    json: Json = False,
) -> None:
    """Compute the metrics of a run or an adapter on labelled rows.

    A run, or an adapter that lorakit trained, knows its base model, task and columns; for other
    adapters pass them.

    Example: `lorakit evaluate runs/reviews --data new-reviews.csv`
    """
    from lorakit.inference.prediction import evaluate_tables
    from lorakit.inference.session import evaluation_tables, open_session

    quiet_libraries(json)
    loading = options.load_options(
        base, lora_alpha, revision, check_base, task, column, label, labels, thresholds
    )
    session = open_session(source, loading)
    tables = evaluation_tables(session, data)
    options.say_reading(tables["test"], data, json)
    name = data or ("its test set" if session.recipe is not None else str(session.spec.hub))
    show(evaluate_tables(session, tables, name, options.shows_progress(json)), json)
