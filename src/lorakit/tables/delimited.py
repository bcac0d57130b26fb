"""CSV and TSV: every cell is the text that stands in the file, and nothing is guessed.

A reader that infers types turns "007" into 7 and "NA" into nothing. Here a column is text, and what
a label means is decided where it is used. Where the cells stand, `layouts` finds.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

from lorakit.tables.chunks import in_chunks
from lorakit.tables.layouts import layout_of
from lorakit.tables.records import Layout, Text, records_of

Columns = dict[str, list[str]]


def parse_csv(text: str, own: str = ",") -> Columns:
    """The columns by name; those without a name (an index that was saved) are left out.

    `own` is the separator by the file's name. Raises FormatError as `layout_of` does.
    """
    lines = partial(io.StringIO, text, newline="")
    (columns,) = columns_of(lines, layout_of(lines, own), most=len(text) + 1)
    return columns


def parse_tsv(text: str) -> Columns:
    """Columns between tabs, or between what else separates them."""
    return parse_csv(text, "\t")


def parse_records(text: str) -> list[list[str]]:
    """The cells of each line between tabs, in which quotes mean nothing; empty lines are none."""
    records = records_of(lambda: io.StringIO(text, newline=""), Layout("\t", quotes=False))
    return [record.cells for record in records]


def columns_of(text: Text, layout: Layout, most: int | None = None) -> Iterator[Columns]:
    """The columns by name, in chunks of `most` letters."""
    rows = (record.cells for record in records_of(text, layout))
    names = [name.strip() for name in next(rows)]
    for chunk in in_chunks(rows, lambda cells: sum(map(len, cells)), most):
        cells = zip(*chunk, strict=True) if chunk else ([] for _ in names)
        yield {name: [*column] for name, column in zip(names, cells, strict=True) if name}
