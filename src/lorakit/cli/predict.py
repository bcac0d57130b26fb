"""`lorakit predict RUN|ADAPTER --data FILE --output FILE | --text TEXT | --glue DIR`."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import options
from lorakit.cli.output import Json, Revision, quiet_libraries, show
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.prediction import Predictions
    from lorakit.inference.session import LoadOptions


def predict(
    source: options.Source,
    data: Annotated[str | None, typer.Option(help="CSV, TSV, JSONL or Parquet file.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="One text, instead of a file; more than once for more.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the rows with their predictions: .jsonl or .csv.")
    ] = None,
    glue: Annotated[
        Path | None,
        typer.Option(help="Directory for the files of GLUE's test server, from its test files."),
    ] = None,
    overwrite: options.Overwrite = False,
    base: options.Base = None,
    lora_alpha: options.Alpha = None,
    task: options.TaskName = None,
    column: options.Column = None,
    labels: options.Labels = None,
    check_base: options.CheckBase = True,
    revision: Revision = None,
    json: Json = False,
) -> None:
    """Predict a label, number or choice for every row of a file, or for a few texts.

    Example: `lorakit predict runs/reviews --data new.csv --output predictions.csv`
    """
    from lorakit.inference.prediction import predict as predict_rows
    from lorakit.inference.session import open_session
    from lorakit.runs.prediction_files import check_columns, check_output, write_predictions

    asked = options.ask(base, lora_alpha, revision, check_base, task, column, None, labels)
    if glue is not None and not text and output is None:
        _for_server(source, asked, data, glue, overwrite, json)
        return
    if glue is not None or (data is None) == (not text) or (data is not None and output is None):
        raise ConfigError(
            "Pass --data FILE with --output FILE, or --text TEXT. For GLUE's test server pass "
            "--glue DIR, with --data FOLDER."
        )
    if output is not None:
        check_output(output, overwrite)
    quiet_libraries(json)
    table = _table(data) if data is not None else None
    if table is not None:
        check_columns(table.column_names)
    saved = open_session(source, asked)
    rows = table if table is not None else _from_texts(saved.task, text or [])
    found = predict_rows(saved, rows, data or "the text", options.shows_progress(json))
    if output is not None:
        write_predictions(output, rows, found.values)
    _tell(source, output, text, found, json)


def _for_server(
    source: str, asked: LoadOptions, data: str | None, directory: Path, overwrite: bool, json: bool
) -> None:
    from lorakit.inference.glue_submission import write_server_files
    from lorakit.inference.session import open_session
    from lorakit.tasks.glue.benchmark import HUB

    quiet_libraries(json)
    progress = options.shows_progress(json)
    saved = open_session(source, asked)
    files = write_server_files(saved, data or HUB, directory, overwrite, progress)
    show([asdict(file) for file in files] if json else "\n".join(map(str, files)), json)


def _table(data: str) -> Any:
    from lorakit.tables.reading import read_table

    return read_table(data, "test")


def _from_texts(task: Any, texts: list[str]) -> Any:
    """A table of one column for texts from the command line."""
    import datasets

    if len(task.text) > 1:
        raise ConfigError(
            f"The model reads {len(task.text)} columns ({', '.join(task.text)}); pass --data FILE."
        )
    return datasets.Dataset.from_dict({next(iter(task.text), "text"): texts})


def _tell(
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
        print(json_module.dumps(content, indent=2, ensure_ascii=False))
        return
    from lorakit.inference.prediction import truncation

    width = max((len(str(value)) for value in found.values), default=0)
    for text, value in zip(texts or [], found.values, strict=False):
        print(f"{str(value).ljust(width)}  {text}")
    if output is not None:
        print(f"{output}: {len(found.values):,} rows with their predictions")
    print(*truncation(found.truncated_rows), sep="", end="\n" if found.truncated_rows else "")
