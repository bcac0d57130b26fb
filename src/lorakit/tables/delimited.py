"""CSV and TSV: every cell is the text that stands in the file, and nothing is guessed.

A reader that infers types turns "007" into 7 and "NA" into nothing. Here a column is text, and what
a label means is decided where it is used.

A cell in quotes may have lines in it that are whole rows without quotes, and then there are two
readings:

    "Great stuff    pos       one row, whose text has a tab and a line break in it,
    bad movie"      neg       or two rows

In CSV quotes enclose a cell, so that is one row, unless other cells have quotes as characters
(`5" disk`): then nobody can know. In TSV quotes are characters in some files, and enclose a cell
in others: two rows if other cells show the former. What stays unclear is refused.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lorakit.errors import FormatError
from lorakit.text import repeated, rows_text

Columns = dict[str, list[str]]


@dataclass(frozen=True)
class _Record:
    """The cells of a row, and the lines of the file that it stands in, the first being 1."""

    cells: list[str]
    first: int
    last: int


def parse_csv(text: str, separator: str = ",") -> Columns:
    """The columns by name; those without a name (an index that was saved) are left out.

    Raises FormatError for rows of another length, names that occur twice, broken quotes, and, if
    some quotes are characters, for quotes without which the file is as regular and has more rows.
    """
    quoted = _records(text, separator, csv.QUOTE_MINIMAL)
    if _has_long_rows(quoted) and not _is_standard(text, separator):
        plain = _records(text, separator, csv.QUOTE_NONE)
        if (unclear := _unclear(quoted, plain)) and _is_even(plain, quoted):
            raise _two_readings(unclear)
    return _columns(quoted, separator)


def parse_tsv(text: str) -> Columns:
    """Columns between tabs; quotes mean what they mean in CSV, or nothing if they do not pair.

    Raises FormatError as `parse_csv` does, and where nothing tells what the quotes mean.
    """
    try:
        quoted = _records(text, "\t", csv.QUOTE_MINIMAL)
        columns = _columns(quoted, "\t")
    except FormatError:
        return _columns(_records(text, "\t", csv.QUOTE_NONE), "\t")
    if not _has_long_rows(quoted):
        return columns
    plain = _records(text, "\t", csv.QUOTE_NONE)
    unclear = _unclear(quoted, plain)
    if unclear and (_is_standard(text, "\t") or not _is_even(plain, quoted)):
        raise _two_readings(unclear)
    return _columns(plain, "\t") if unclear else columns


def parse_records(text: str) -> list[list[str]]:
    """The cells of each line between tabs, in which quotes mean nothing; empty lines are none."""
    return [record.cells for record in _records(text, "\t", csv.QUOTE_NONE)]


def _records(text: str, separator: str, quoting: int) -> list[_Record]:
    """The rows; empty lines are none."""
    limit = csv.field_size_limit(sys.maxsize)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    records, before = [], 0
    try:
        for cells in reader:
            if cells:
                records.append(_Record(cells, before + 1, reader.line_num))
            before = reader.line_num
    except csv.Error as error:
        raise FormatError(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return records


def _is_standard(text: str, separator: str) -> bool:
    """Whether all quotes of a text with valid quotes enclose cells, or are doubled in those.

    >>> _is_standard('"a ""b""\\nc",d', ","), _is_standard('5" disk,d', ",")
    (True, False)
    """
    between = re.escape(separator)
    enclosed = rf'(^|[\r\n]|{between})"[^"]*(?:""[^"]*)*"(?=[\r\n]|{between}|$)'
    return '"' not in re.sub(enclosed, r"\1", text)


def _has_long_rows(records: Sequence[_Record]) -> bool:
    return any(record.last > record.first for record in records)


def _unclear(quoted: Sequence[_Record], plain: Sequence[_Record]) -> list[_Record]:
    """The rows of several lines each of which has a whole row's cells without quotes."""
    width = len(quoted[0].cells)
    cells = {record.first: len(record.cells) for record in plain}
    return [
        record
        for record in quoted
        if record.last > record.first
        and all(cells.get(line, width) == width for line in range(record.first, record.last + 1))
    ]


def _is_even(plain: Sequence[_Record], quoted: Sequence[_Record]) -> bool:
    """Whether the file without quotes has the same columns, several, and no row of another length.

    In a file of one column any line is a row.
    """
    header = quoted[0].cells
    return (
        len(header) > 1
        and plain[0].cells == header
        and all(len(record.cells) == len(header) for record in plain)
    )


def _two_readings(unclear: Sequence[_Record]) -> FormatError:
    found = [
        f"lines {record.first} to {record.last}: one row, or {record.last - record.first + 1}"
        for record in unclear[:5]
    ]
    more = [f"and {len(unclear) - 5} more"] if len(unclear) > 5 else []
    return FormatError(
        "its quotes may enclose a cell of several lines, or be characters of several rows; double "
        'those that are characters and put their cell in quotes ("a ""b"" c"), or save the rows as '
        "JSON lines",
        [*found, *more],
    )


def _columns(records: Sequence[_Record], separator: str) -> Columns:
    if not records:
        raise FormatError("it is empty")
    header, *rows = (record.cells for record in records)
    names = [name.strip() for name in header]
    uneven = [i for i, row in enumerate(rows) if len(row) != len(names)]
    problems = [
        f"the column {name!r} occurs more than once" for name in repeated(filter(None, names))
    ]
    if uneven:
        problems.append(
            f"{rows_text(uneven)}: not {len(names)} cells, as the header has; a cell that contains "
            f"{separator!r} has to be in quotes"
        )
    if problems:
        raise FormatError("its rows do not fit its header", problems)
    cells = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: list(column) for name, column in zip(names, cells, strict=True) if name}
