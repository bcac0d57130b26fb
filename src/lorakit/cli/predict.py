"""`lorakit predict RUN|ADAPTER --data FILE --output FILE | --text TEXT | --glue DIR`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.prediction import Predictions
    from lorakit.inference.session import LoadOptions


def predict(
    source: options.Source,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Rows: CSV, TSV, JSONL or Parquet file, data set on the Hub, or GLUE's folder.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A text in place of a file; repeat it for several.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    column: options.Column = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File for the rows with a column prediction: .jsonl, .csv or .tsv.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    glue: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory for a submission to GLUE's test server, in place of --output.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    labels: options.Labels = None,
    thresholds: options.Thresholds = None,
    check_base: options.CheckBase = True,
    revision: options.Revision = None,
    json: Json = False,
) -> None:
    """Predict a label, a number, a choice or tags of words for every row of a file, or for texts.

    Needs --data with --output, or --text. With --glue DIR it predicts GLUE's test sets instead and
    writes the files for its test server.

    Example: `lorakit predict runs/reviews --data new.csv --output predictions.csv`
    """
    from lorakit.inference.prediction import predict as predict_rows
    from lorakit.inference.prediction import require_predicting
    from lorakit.inference.session import open_session
    from lorakit.runs.prediction_files import check_columns, check_output, write_predictions

    loading = options.load_options(
        base, lora_alpha, revision, check_base, task, column, None, labels, thresholds
    )
    if glue is not None and not text and output is None:
        _write_submission(source, loading, data, glue, overwrite, json)
        return
    if glue is not None or (data is None) == (not text) or (data is not None and output is None):
        raise ConfigError(
            "Pass --data FILE with --output FILE, or --text TEXT. For a submission to GLUE's test "
            "server pass --glue DIR alone, or with --data FOLDER."
        )
    if text:
        options.refuse_columns(column, "--text")
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    session = open_session(source, loading)
    require_predicting(session)
    if data is None:
        rows = _from_texts(session.task, text or [])
    else:
        rows = session.spec.read_rows(data)
        check_columns(rows.column_names)
    found = predict_rows(session, rows, data or "--text", options.shows_progress(json))
    if output is not None:
        write_predictions(output, rows, found.values)
    _print_result(source, output, text, found, json)


def _write_submission(
    source: str,
    loading: LoadOptions,
    data: str | None,
    directory: Path,
    overwrite: bool,
    json: bool,
) -> None:
    from lorakit.inference.glue_submission import write_server_files
    from lorakit.inference.session import open_session
    from lorakit.tasks.glue.benchmark import HUB

    quiet_libraries(json)
    progress = options.shows_progress(json)
    session = open_session(source, loading)
    files = write_server_files(session, data or HUB, directory, overwrite, progress)
    show([asdict(file) for file in files] if json else "\n".join(map(str, files)), json)


def _from_texts(task: Any, texts: list[str]) -> Any:
    """A table of one column for texts from the command line."""
    import datasets

    if len(task.text) > 1:
        raise ConfigError(
            f"The model reads {len(task.text)} columns ({', '.join(task.text)}), so --text cannot "
            "be used; pass --data FILE."
        )
    return datasets.Dataset.from_dict({next(iter(task.text), "text"): texts})


def _print_result(
    source: str, output: Path | None, texts: list[str] | None, found: Predictions, as_json: bool
) -> None:
    if as_json:
        content: dict[str, Any] = {
            "source": source,
            "rows": len(found.values),
            "truncated_rows": found.truncated_rows,
        }
        content |= {"output": str(output)} if output else {}
        content |= {"predictions": found.values} if texts else {}
        show(content, as_json)
        return
    from lorakit.inference.prediction import truncation

    shown = list(map(_shown, found.values))
    width = max(map(len, shown), default=0)
    for text, value in zip(texts or [], shown, strict=False):
        print(f"{value.ljust(width)}  {text}")
    if output is not None:
        print(f"{output}: {len(found.values):,} rows with their predictions")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")


def _shown(value: Any) -> str:
    """A prediction for people; a list of labels, or of entities, without brackets."""
    return ", ".join(map(_part, value)) or "-" if isinstance(value, list) else str(value)


def _part(value: Any) -> str:
    return f"{value['text']} ({value['type']})" if isinstance(value, dict) else str(value)
