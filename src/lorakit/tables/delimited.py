"""CSV and TSV: every cell is the text that stands in the file, and nothing is guessed.

A reader that infers types turns "007" into 7 and "NA" into nothing. Here a column is text, and what
a label means is decided where it is used. Where the cells stand, `layouts` finds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from lorakit.tables.layouts import layout_of
from lorakit.tables.records import Layout, Text, records_of

Columns = dict[str, list[str]]


def parse_csv(text: str, own: str = ",") -> Columns:
    """The columns by name; those without a name (an index that was saved) are left out.

    `own` is the separator by the file's name. Raises FormatError as `layout_of` does.
    """
    return read_columns(lambda: io.StringIO(text, newline=""), own)[0]


def parse_tsv(text: str) -> Columns:
    """Columns between tabs, or between what else separates them."""
    return parse_csv(text, "\t")


def parse_records(text: str) -> list[list[str]]:
    """The cells of each line between tabs, in which quotes mean nothing; empty lines are none."""
    records = records_of(lambda: io.StringIO(text, newline=""), Layout("\t", quotes=False))
    return [record.cells for record in records]


def read_columns(text: Text, own: str) -> tuple[Columns, Layout]:
    """The columns by name, and how their cells were told apart."""
    layout = layout_of(text, own)
    rows = rows_of(text, layout)
    names = [name.strip() for name in next(rows)]
    columns: list[list[str]] = [[] for _ in names]
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
    return {name: column for name, column in zip(names, columns, strict=True) if name}, layout


def rows_of(text: Text, layout: Layout) -> Iterator[list[str]]:
    """The cells of the header, and then of each row."""
    return (record.cells for record in records_of(text, layout))
