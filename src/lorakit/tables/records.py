"""The records of delimited text: their cells, and the lines that they stand in."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lorakit.errors import FormatError

Text = Callable[[], Iterable[str]]
"""Opens the text again: its lines with their ends."""


@dataclass(frozen=True)
class Layout:
    """How the cells of a file stand in its lines."""

    separator: str
    quotes: bool
    """Whether quotes enclose cells, or are characters of them."""


@dataclass(frozen=True)
class Record:
    """The cells of a row, and the lines of the file that it stands in."""

    cells: list[str]
    lines: list[str]
    last: int
    """The number of its last line, the first of the file being 1."""


def records_of(text: Text, layout: Layout) -> Iterator[Record]:
    """The header, and then each row; empty lines are none.

    Raises FormatError, with the line, for quotes that enclose no whole cell.
    """
    quoting = csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE
    limit = csv.field_size_limit(sys.maxsize)
    lines: list[str] = []
    reader = csv.reader(
        _kept(text(), lines),
        delimiter=layout.separator,
        quoting=quoting,  # type: ignore[arg-type]
        strict=True,
    )
    try:
        for cells in reader:
            if cells:
                yield Record(cells, [*lines], reader.line_num)
            lines.clear()
    except csv.Error as error:
        raise FormatError(f"line {reader.line_num}: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _kept(text: Iterable[str], lines: list[str]) -> Iterator[str]:
    """The lines, each of which is also put to `lines`."""
    for line in text:
        lines.append(line)
        yield line
