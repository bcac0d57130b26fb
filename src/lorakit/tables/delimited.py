"""CSV and TSV: every cell is the text that stands in the file, and nothing is guessed.

A reader that infers types turns "007" into 7 and "NA" into nothing. Here a column is text, and what
a label means is decided where it is used.
"""

from __future__ import annotations

import csv
import io
import sys

from lorakit.errors import FormatError
from lorakit.text import rows_text

Columns = dict[str, list[str]]


def parse_csv(text: str, separator: str = ",") -> Columns:
    """The columns by name; those without a name (an index that was saved) are left out.

    Raises FormatError for rows of another length, names that occur twice and broken quotes.
    """
    return _columns(_records(text, separator, csv.QUOTE_MINIMAL), separator)


def parse_tsv(text: str) -> Columns:
    """Columns between tabs; quotes mean what they mean in CSV, or nothing if they do not pair."""
    try:
        return parse_csv(text, "\t")
    except FormatError:
        return _columns(parse_records(text), "\t")


def parse_records(text: str) -> list[list[str]]:
    """The cells of each line between tabs, in which quotes mean nothing; empty lines are none."""
    return _records(text, "\t", csv.QUOTE_NONE)


def _records(text: str, separator: str, quoting: int) -> list[list[str]]:
    """The rows as lists of cells; empty lines are none."""
    limit = csv.field_size_limit(sys.maxsize)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    try:
        return [record for record in reader if record]
    except csv.Error as error:
        raise FormatError(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _columns(records: list[list[str]], separator: str) -> Columns:
    if not records:
        raise FormatError("it is empty")
    header, *rows = records
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    uneven = [i for i, row in enumerate(rows) if len(row) != len(names)]
    problems = [f"the column {name!r} occurs more than once" for name in twice]
    if uneven:
        problems.append(
            f"{rows_text(uneven)}: not {len(names)} cells, as the header has; a cell that contains "
            f"{separator!r} has to be in quotes"
        )
    if problems:
        raise FormatError("its rows do not fit its header", problems)
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, cells, strict=True) if name}
