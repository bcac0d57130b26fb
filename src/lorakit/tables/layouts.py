"""What separates the cells of a file, and whether quotes enclose some, as its text shows.

The separator is the only one by which the header has several cells and every row as many. Where two
are, the file is refused with both.

A cell in quotes may have lines in it that are whole rows without quotes, and then there are two
readings:

    "Great stuff    pos       one row, whose text has a tab and a line break in it,
    bad movie"      neg       or two rows

In CSV quotes enclose a cell, so that is one row, unless other cells have quotes as characters
(`5" disk`): then nobody can know. Between tabs quotes are characters in some files, and enclose a
cell in others: two rows if other cells show the former. What stays unclear is refused.
"""

from __future__ import annotations

import re

from lorakit.errors import FormatError
from lorakit.tables.records import Layout, Record, Text, records_of
from lorakit.text import plural, repeated, rows_text

SEPARATORS = (",", ";", "\t", "|")
"""The characters that may stand between cells."""
_SHOWN = 5


def layout_of(text: Text, own: str = ",") -> Layout:
    """The layout in which the header has several cells, and all rows as many.

    `own` is the separator by the file's name: of a file with one column, and the one that the error
    is about if none fits. Raises FormatError for rows of another length, names that occur twice,
    broken quotes, and for quotes and separators with two readings.
    """
    headers = {mark: cells for mark in SEPARATORS if len(cells := _header(text, mark)) > 1}
    found, errors = [], {}
    for mark in headers or [own]:
        try:
            found.append(_layout(text, mark))
        except FormatError as error:
            errors[mark] = error
    if len(found) == 1:
        return found[0]
    if not found:
        raise errors.get(own) or next(iter(errors.values()))
    raise FormatError(
        "what separates its cells cannot be told; put names of columns in which such a character "
        "stands in quotes",
        [
            f"with {mark!r} the columns are {', '.join(map(repr, headers[mark]))}"
            for mark in (layout.separator for layout in found)
        ],
    )


def _header(text: Text, separator: str) -> list[str]:
    """The cells of the first row; none if its quotes are broken."""
    try:
        first = next(records_of(text, Layout(separator, quotes=True)), None)
    except FormatError:
        return []
    return [] if first is None else first.cells


def _layout(text: Text, separator: str) -> Layout:
    quoted, plain = Layout(separator, quotes=True), Layout(separator, quotes=False)
    between_tabs = separator == "\t"
    try:
        found = _Scan(text, quoted)
        found.require_even()
    except FormatError:
        if not between_tabs:
            raise
        _Scan(text, plain).require_even()
        return plain
    if not found.unclear:
        return quoted
    may_be_characters = not found.is_standard and found.is_even_without_quotes
    if may_be_characters != between_tabs:
        raise found.two_readings()
    return plain if between_tabs else quoted


class _Scan:
    """What one pass over the lines finds."""

    def __init__(self, text: Text, layout: Layout) -> None:
        self._separator = layout.separator
        self._header: list[str] = []
        self._uneven: list[int] = []  # the rows that are not as long as the header
        self.unclear: list[tuple[int, int]] = []
        """The first and last lines of rows each line of which has a whole row's cells."""
        self.is_standard = True
        """Whether all quotes enclose cells, or are doubled in those."""
        self.is_even_without_quotes = True
        """Whether every line has the cells of the header, which are several."""
        for row, record in enumerate(records_of(text, layout), start=-1):
            self._add(row, record)

    def _add(self, row: int, record: Record) -> None:
        if row < 0:
            self._header = record.cells
            self.is_even_without_quotes = len(record.cells) > 1 and '"' not in record.lines[0]
        width = len(self._header)
        if len(record.cells) != width:
            self._uneven.append(row)
        has_rows = all(self._cells_in(line) in (0, width) for line in record.lines)
        self.is_even_without_quotes &= has_rows
        if any('"' in line for line in record.lines):
            self.is_standard &= _is_standard("".join(record.lines), self._separator)
        if len(record.lines) > 1 and has_rows:
            self.unclear.append((record.last - len(record.lines) + 1, record.last))

    def _cells_in(self, line: str) -> int:
        """The cells of a line if quotes mean nothing; none of an empty one."""
        return line.count(self._separator) + 1 if line.strip("\r\n") else 0

    def require_even(self) -> None:
        """Raise FormatError for rows that do not fit the header, and for names that occur twice."""
        if not self._header:
            raise FormatError("it is empty")
        names = [name.strip() for name in self._header]
        problems = [
            f"the column {name!r} occurs more than once" for name in repeated(filter(None, names))
        ]
        if self._uneven:
            problems.append(
                f"{rows_text(self._uneven)}: not {plural(len(names), 'cell')}, as the header has; "
                f"a cell that contains {self._separator!r} has to be in quotes"
            )
        if problems:
            raise FormatError("its rows do not fit its header", problems)

    def two_readings(self) -> FormatError:
        """The error that names the rows whose quotes are unclear."""
        found = [
            f"lines {first} to {last}: one row, or {last - first + 1}"
            for first, last in self.unclear[:_SHOWN]
        ]
        more = len(self.unclear) - _SHOWN
        return FormatError(
            "its quotes may enclose a cell of several lines, or be characters of several rows; "
            'double those that are characters and put their cell in quotes ("a ""b"" c"), or save '
            "the rows as JSON lines",
            [*found, *([f"and {more} more"] if more > 0 else [])],
        )


def _is_standard(text: str, separator: str) -> bool:
    """Whether all quotes of a text with valid quotes enclose cells, or are doubled in those.

    >>> _is_standard('"a ""b""\\nc",d', ","), _is_standard('5" disk,d', ",")
    (True, False)
    """
    between = re.escape(separator)
    enclosed = rf'(^|[\r\n]|{between})"[^"]*(?:""[^"]*)*"(?=[\r\n]|{between}|$)'
    return '"' not in re.sub(enclosed, r"\1", text)
