"""A table with a column of predictions, as JSON lines or CSV."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lorakit.errors import ConfigError, SaveError
from lorakit.files import atomic_write, directory_for_writing, try_directory
from lorakit.foreign_files import local_path
from lorakit.tasks.outputs import PREDICTION
from lorakit.text import to_json

_HALF_PAIRS = "backslashreplace"
"""How half a surrogate pair is written, which UTF-8 has not: as JSON escapes it."""
SUFFIXES = (".jsonl", ".csv", ".tsv")
PROBABILITIES = "probabilities"
"""The column with an object of label and probability; in CSV one column for each label, named as
`pandas.json_normalize` names them."""


def check_output(output: Path, overwrite: bool) -> None:
    """Raise, before anything is computed, if the predictions could not be written there.

    ConfigError for an unknown file suffix, SaveError if it exists or its directory cannot be
    created or written.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError(
            f"The name of the output file {output} must end in one of {', '.join(SUFFIXES)}."
        )
    require_writable(output, overwrite)


def require_writable(output: Path, overwrite: bool) -> None:
    """Raise SaveError if the file exists, or its directory cannot be created or written."""
    if local_path(output).exists() and not overwrite:
        raise SaveError(f"{output} exists already; choose another file, or pass --overwrite.")
    try:
        try_directory(output.parent)
    except OSError as error:
        raise SaveError(f"The directory {output.parent} cannot be written: {error}") from error


def check_columns(columns: Sequence[str], added: Collection[str] = (PREDICTION,)) -> None:
    """Raise ConfigError if the table already has a column of an added name."""
    if taken := [name for name in columns if name in added]:
        names = ", ".join(map(repr, taken))
        raise ConfigError(
            f"The data has a column {names} already, which would be overwritten; rename it."
        )


def added_columns(output: Path, answers: Sequence[str] = ()) -> list[str]:
    """The columns that a file of predictions has beside the rows' own.

    >>> added_columns(Path("new.csv"), ["no", "yes"])
    ['prediction', 'probabilities.no', 'probabilities.yes']
    """
    if output.suffix == ".jsonl":
        return [PREDICTION, *([PROBABILITIES] if answers else [])]
    return [PREDICTION, *_flat(dict.fromkeys(answers, 0.0))]


def write_predictions(
    output: Path,
    table: Any,
    predictions: Sequence[Any],
    probabilities: Sequence[Mapping[str, float]] | None = None,
) -> None:
    """Write the rows with what was predicted; the file appears complete or not at all.

    `probabilities` are those of each row's answers. Raises SaveError if it cannot be
    written.
    """
    rows = ({**row, PREDICTION: p} for row, p in zip(table, predictions, strict=True))
    if probabilities is not None:
        flat = output.suffix != ".jsonl"
        more = (_flat(found) if flat else {PROBABILITIES: found} for found in probabilities)
        rows = ({**row, **own} for row, own in zip(rows, more, strict=True))
    try:
        with (
            directory_for_writing(output.parent),
            atomic_write(output) as temporary,
            temporary.open("w", encoding="utf-8", errors=_HALF_PAIRS, newline="") as file,
        ):
            if output.suffix == ".jsonl":
                file.writelines(json_text(row) + "\n" for row in rows)
            else:
                answers = dict.fromkeys(name for each in probabilities or () for name in each)
                columns = [*table.column_names, *added_columns(output, [*answers])]
                _write_csv(file, columns, rows, output.suffix)
    except OSError as error:
        raise SaveError(f"{output} cannot be written: {error}") from error


def json_text(row: Any) -> str:
    """A row of JSON lines, or a cell."""
    return to_json(row, ensure_ascii=False, default=str)


def _flat(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {f"{PROBABILITIES}.{name}": value for name, value in probabilities.items()}


def _write_csv(file: IO[str], columns: list[str], rows: Any, suffix: str) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    writer = csv.DictWriter(file, columns, delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """A cell of CSV: lists and objects as JSON, as they are read."""
    return json_text(value) if isinstance(value, list | dict) else value
