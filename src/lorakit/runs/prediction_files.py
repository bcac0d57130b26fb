"""A table with a column of predictions, as JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

from lorakit.errors import ConfigError, SaveError
from lorakit.files import atomic_write
from lorakit.tasks.outputs import PREDICTION

SUFFIXES = (".jsonl", ".csv", ".tsv")


def check_output(output: Path, overwrite: bool) -> None:
    """Raise, before anything is computed, if the predictions could not be written there.

    ConfigError for an unknown kind of file, SaveError if it exists or the directory cannot be made.
    """
    if output.suffix not in SUFFIXES:
        raise ConfigError(f"{output} must end in {', '.join(SUFFIXES)}.")
    if output.exists() and not overwrite:
        raise SaveError(f"{output} exists already; name another file, or pass --overwrite.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"{output.parent} cannot be made: {error}") from error
    if not os.access(output.parent, os.W_OK):
        raise SaveError(f"{output.parent} cannot be written to.")


def check_columns(columns: Sequence[str], added: Collection[str] = (PREDICTION,)) -> None:
    """Raise ConfigError if a column that is added would hide one of the table."""
    if taken := [name for name in columns if name in added]:
        names = ", ".join(map(repr, taken))
        raise ConfigError(f"The data has a column {names} already; rename it first.")


def write_predictions(output: Path, table: Any, predictions: Sequence[Any]) -> None:
    """The rows with their predictions, in one go: the file appears complete or not at all.

    Raises SaveError if it cannot be written.
    """
    rows = ({**row, PREDICTION: p} for row, p in zip(table, predictions, strict=True))
    try:
        with (
            atomic_write(output) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            if output.suffix == ".jsonl":
                file.writelines(json_line(row) + "\n" for row in rows)
            else:
                _write_csv(file, [*table.column_names, PREDICTION], rows, output.suffix)
    except OSError as error:
        raise SaveError(f"{output} cannot be written: {error}") from error


def json_line(row: dict[str, Any]) -> str:
    """One row of JSON lines."""
    return json.dumps(row, ensure_ascii=False, default=str)


def _write_csv(file: IO[str], columns: list[str], rows: Any, suffix: str) -> None:
    separator = "\t" if suffix == ".tsv" else ","
    writer = csv.DictWriter(file, columns, delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
