"""`lorakit predict RUN|ADAPTER --data FILE --output FILE | --text TEXT | --glue DIR`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.errors import ConfigError
from lorakit.text import table

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
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add the probability of every label: an object in JSON lines and --json, a column "
            "`probabilities.LABEL` in CSV and TSV.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
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

    Needs --data with --output, or --text; --probabilities adds that of every label. With --glue DIR
    it predicts GLUE's test sets instead and writes the files for its test server.

    Example: `lorakit predict runs/reviews --data new.csv --output predictions.csv`
    """
    from lorakit.inference.prediction import fitted, require_predicting
    from lorakit.inference.prediction import predict as predict_rows
    from lorakit.inference.session import open_session
    from lorakit.runs.prediction_files import (
        added_columns,
        check_columns,
        check_output,
        write_predictions,
    )

    loading = options.load_options(
        base, lora_alpha, revision, check_base, task, column, None, labels, thresholds
    )
    if glue is not None and not text and output is None and not probabilities:
        _write_submission(source, loading, data, glue, overwrite, json)
        return
    if glue is not None or (data is None) == (not text) or (data is not None and output is None):
        raise ConfigError(
            "Pass --data FILE with --output FILE, or --text TEXT. For a submission to GLUE's test "
            "server pass --glue DIR alone, or with --data FOLDER; it has no probabilities."
        )
    if text:
        options.refuse_columns(column, "--text")
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    session = open_session(source, loading)
    require_predicting(session, probabilities)
    rows = session.spec.read_rows(data) if data else _from_texts(session.task, text or [])
    options.say_reading(rows, data, json)
    if output is not None:
        fitting = fitted(session.task, rows, data or "--text", with_label=False)
        answers = fitting.answer_names if probabilities else ()
        check_columns(rows.column_names, added_columns(output, answers))
    progress = options.shows_progress(json)
    found = predict_rows(session, rows, data or "--text", progress, probabilities)
    if output is not None:
        write_predictions(output, rows, found.values, found.probabilities)
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
        content |= {"probabilities": found.probabilities} if texts and found.probabilities else {}
        show(content, as_json)
        return
    from lorakit.inference.prediction import truncation

    if texts:
        print(*_lines(texts, found), sep="\n")
    if output is not None:
        print(f"{output}: {len(found.values):,} rows with their predictions")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")


def _lines(texts: list[str], found: Predictions) -> list[str]:
    """The texts after what was predicted, in columns."""
    shown = list(map(_shown, found.values))
    if found.probabilities is None:
        width = max(map(len, shown))
        return [f"{value.ljust(width)}  {text}" for value, text in zip(shown, texts, strict=True)]
    rows = zip(shown, found.probabilities, texts, strict=True)
    return table(
        [
            ("prediction", *found.probabilities[0], "text"),
            *((value, *(f"{p:.4f}" for p in each.values()), text) for value, each, text in rows),
        ]
    )


def _shown(value: Any) -> str:
    """A prediction for people; a list of labels, or of entities, without brackets."""
    return ", ".join(map(_part, value)) or "-" if isinstance(value, list) else str(value)


def _part(value: Any) -> str:
    return f"{value['text']} ({value['type']})" if isinstance(value, dict) else str(value)
