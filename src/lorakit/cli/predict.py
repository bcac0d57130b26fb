"""`lorakit predict RUN|ADAPTER --data FILE --output FILE | --text TEXT | --glue DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakit.cli import many, options
from lorakit.cli.output import Json, quiet_libraries, show
from lorakit.cli.predictions import print_predictions
from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.inference.glue_submission import ServerFile
    from lorakit.inference.session import LoadOptions


def predict(
    source: options.OneOf = None,
    adapter: options.Adapters = None,
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
    adapter_column: options.AdapterColumn = None,
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
    subfolder: options.Subfolder = None,
    json: Json = False,
) -> None:
    """Predict a label, a number, a choice or tags of words for every row of a file, or for texts.

    Needs --data with --output, or --text; --probabilities adds that of every label. With --glue DIR
    it predicts GLUE's test sets instead and writes the files for its test server. With --adapter
    several of one base predict together: each row of a file with the adapter that its column names,
    each --text with all of them, each test set of GLUE with the adapter for its task.

    Example: `lorakit predict runs/reviews --data new.csv --output predictions.csv`

    Example: `lorakit predict --adapter a=runs/a --adapter b=runs/b --data mixed.csv --output p.csv`
    """
    from lorakit.runs.prediction_files import check_output

    many.require_source(source, adapter, adapter_column)
    loading = options.load_options(
        base, lora_alpha, revision, subfolder, check_base, task, column, None, labels, thresholds
    )
    of_one = {"--labels": labels, "--thresholds": thresholds, "--revision": revision}
    if glue is not None and not text and output is None and not probabilities:
        quiet_libraries(json)
        if adapter:
            many.refuse_column(adapter_column)
            several = many.read_adapters(adapter, source, loading, None, of_one)
            _write_submission_of_many(several, data, glue, overwrite, json)
        else:
            assert source is not None
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
    if adapter:
        several = many.read_adapters(adapter, source, loading, adapter_column, of_one)
        _predict_many(several, data, text or [], output, probabilities, json)
    else:
        assert source is not None
        _predict(source, loading, data, text or [], output, probabilities, json)


def _predict(
    source: str,
    loading: LoadOptions,
    data: str | None,
    texts: list[str],
    output: Path | None,
    probabilities: bool,
    as_json: bool,
) -> None:
    from lorakit.inference.prediction import fitted, predict, require_predicting
    from lorakit.inference.session import open_session
    from lorakit.runs.prediction_files import added_columns, check_columns, write_predictions

    session = open_session(source, loading)
    require_predicting(session, probabilities)
    rows = session.spec.read_rows(data) if data else _from_texts(session.task, texts)
    options.say_reading(rows, data, as_json)
    if output is not None:
        fitting = fitted(session.task, rows, data or "--text", with_label=False)
        answers = fitting.answer_names if probabilities else ()
        check_columns(rows.column_names, added_columns(output, answers))
    progress = options.shows_progress(as_json)
    found = predict(session, rows, data or "--text", progress, probabilities)
    if output is not None:
        write_predictions(output, rows, found.values, found.probabilities)
    print_predictions({"source": session.source}, output, texts, found, as_json)


def _predict_many(
    several: many.Many,
    data: str | None,
    texts: list[str],
    output: Path | None,
    probabilities: bool,
    as_json: bool,
) -> None:
    from lorakit.inference.many import predict, require_predictions
    from lorakit.runs.prediction_files import added_columns, check_columns, write_predictions

    require_predictions(several.described, probabilities)
    if data is not None:
        table, rows, names = several.rows(data, as_json)
        texts = []
    else:
        texts = [text for text in texts for _ in several.names]
        names = several.names * (len(texts) // len(several.names))
        table = rows = _for_all(several, texts)
    if output is not None:
        answers = several.answer_names() if probabilities else ()
        check_columns(table.column_names, added_columns(output, answers))
    progress = options.shows_progress(as_json)
    found = predict(several.load(), names, rows, data or "--text", progress, probabilities)
    if output is not None:
        write_predictions(output, table, found.values, found.probabilities)
    print_predictions(several.content(), output, texts, found, as_json, names)


def _write_submission(
    source: str,
    loading: LoadOptions,
    data: str | None,
    directory: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    from lorakit.inference.glue_submission import write_server_files
    from lorakit.inference.session import open_session
    from lorakit.tasks.glue.benchmark import HUB

    progress = options.shows_progress(as_json)
    session = open_session(source, loading)
    _print_files(write_server_files(session, data or HUB, directory, overwrite, progress), as_json)


def _write_submission_of_many(
    several: many.Many, data: str | None, directory: Path, overwrite: bool, as_json: bool
) -> None:
    from lorakit.inference.many.submission import read_server_sets, write_server_files
    from lorakit.tasks.glue.benchmark import HUB

    sets = read_server_sets(several.described, data or HUB, directory, overwrite)
    progress = options.shows_progress(as_json)
    _print_files(write_server_files(several.load(), sets, progress), as_json)


def _print_files(files: Sequence[ServerFile], as_json: bool) -> None:
    show([asdict(file) for file in files] if as_json else "\n".join(map(str, files)), as_json)


def _from_texts(task: Any, texts: list[str]) -> Any:
    """A table of one column for texts from the command line."""
    import datasets

    if len(task.text) > 1:
        raise ConfigError(
            f"The model reads {len(task.text)} columns ({', '.join(task.text)}), so --text cannot "
            "be used; pass --data FILE."
        )
    return datasets.Dataset.from_dict({next(iter(task.text), "text"): texts})


def _for_all(several: many.Many, texts: list[str]) -> Any:
    """A table of the column of each adapter, with the same texts."""
    import datasets

    columns = {name: found.task.text or ("text",) for name, found in several.described.items()}
    pairs = [f"{name}: {', '.join(own)}" for name, own in columns.items() if len(own) > 1]
    if pairs:
        raise ConfigError("These read several columns; pass --data FILE in place of --text:", pairs)
    return datasets.Dataset.from_dict({own[0]: texts for own in columns.values()})
