"""`lorakit evaluate RUN|ADAPTER [--data FILE]`."""

from __future__ import annotations

from typing import Annotated

import typer

from lorakit.cli import many, options
from lorakit.cli.output import Json, quiet_libraries, show


def evaluate(
    source: options.OneOf = None,
    adapter: options.Adapters = None,
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
    adapter_column: options.AdapterColumn = None,
    column: options.Column = None,
    label: options.Label = None,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    labels: options.Labels = None,
    thresholds: options.Thresholds = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Compute the metrics of a run or an adapter on labelled rows.

    A run, or an adapter that lorakit trained, knows its base model, task and columns; for other
    adapters pass them. With --adapter several of one base are evaluated in one pass: over a file
    whose column says each row's adapter, or without --data each on its own test set.

    Example: `lorakit evaluate runs/reviews --data new-reviews.csv`

    Example: `lorakit evaluate --adapter a=runs/a --adapter b=runs/b --data mixed.csv`
    """
    from lorakit.inference.prediction import evaluate_tables
    from lorakit.inference.session import evaluation_tables, open_session

    many.require_source(source, adapter, adapter_column)
    quiet_libraries(json)
    loading = options.load_options(
        base, lora_alpha, revision, subfolder, check_base, task, column, label, labels, thresholds
    )
    if adapter:
        of_one = {"--labels": labels, "--thresholds": thresholds, "--revision": revision}
        if data is None:
            many.refuse_column(adapter_column)
        several = many.read_adapters(adapter, source, loading, adapter_column, of_one)
        _evaluate_many(several, data, json)
        return
    assert source is not None
    session = open_session(source, loading)
    tables = evaluation_tables(session, data)
    options.say_reading(tables["test"], data, json)
    recipe = session.recipe
    name = data or (f"its {recipe.data.measured_on} set" if recipe else str(session.spec.hub))
    show(evaluate_tables(session, tables, name, options.shows_progress(json)), json)


def _evaluate_many(several: many.Many, data: str | None, as_json: bool) -> None:
    from lorakit.inference.many import evaluate, evaluate_own

    progress = options.shows_progress(as_json)
    if data is None:
        tables = several.own_tables()
        found = evaluate_own(several.load(), tables, progress)
    else:
        _, rows, names = several.rows(data, as_json)
        found = evaluate(several.load(), names, rows, data, progress)
    show(found, as_json)
