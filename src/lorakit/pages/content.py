"""What a page says, as values: sections of paragraphs, tables, figures and listings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lorakit.errors import ConfigError
from lorakit.pages.figures.panel import Panel

NONE = "—"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its `text`, and what else there is to say."""

    text: str
    value: float | None = None
    """The number that the text stands for: it is set to the right, and rows are sorted by it."""
    best: bool = False
    """Set in bold."""
    marks: str = ""
    """Raised behind the text; the table's legend says what they mean."""
    below: str = ""
    """A second line in small letters, such as a published figure."""
    details: str = ""
    """A long text that opens below, such as an error's whole message."""


def number(value: float | None, form: str = ".3f") -> Cell:
    """`value` as a cell, written by the format `form`; None is a dash.

    >>> number(25_192_448, ",").text, number(0.98765).text, number(None).text
    ('25,192,448', '0.988', '—')
    """
    return Cell(NONE if value is None else format(value, form), value)


@dataclass(frozen=True)
class Column:
    """The head of a column: its `name`."""

    name: str
    group: str = ""
    """Neighbours of the same group share a head above theirs."""


@dataclass(frozen=True)
class Table:
    """`rows` of cells below `columns`; the first cell of a row is its name.

    A string stands for a cell or a column with nothing else to say. Raises ConfigError for a row of
    another length.
    """

    caption: str
    """What the numbers are."""
    columns: Sequence[Column | str]
    rows: Sequence[Sequence[Cell | str]]
    legend: Sequence[tuple[str, str]] = ()
    """Each mark with what it means."""

    def __post_init__(self) -> None:
        wrong = [
            f"row {at} has {len(row)}: {', '.join(map(str, row))}"
            for at, row in enumerate(self.rows, start=1)
            if len(row) != len(self.columns)
        ]
        if wrong:
            raise ConfigError(f"The table has {len(self.columns)} columns, but:", wrong)


@dataclass(frozen=True)
class Figure:
    """One panel, or several small ones side by side with one legend."""

    caption: str
    """What is drawn."""
    alt: str
    """What one sees in it, for those who cannot."""
    panels: Sequence[Panel]
    """Of `lorakit.pages.figures`."""


@dataclass(frozen=True)
class Listing:
    """`text` whose lines stay as they are, such as a file of settings, below its `caption`."""

    caption: str
    text: str


Part: TypeAlias = str | Table | Figure | Listing
"""What a section is made of; a string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading, its `title`, and what stands below it."""

    title: str
    parts: Sequence[Part]
    """Paragraphs (strings), tables, figures and listings."""


@dataclass(frozen=True)
class Note:
    """A remark, its `text`, with the page where its source can be read."""

    text: str
    link: str = ""
    """https:// or http://; opened by a click alone."""

    def __post_init__(self) -> None:
        if self.link and not self.link.startswith(("https://", "http://")):
            raise ConfigError(f"A note's link is {self.link!r}; it has to begin with https://")


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    """What it is about, in a line."""
    lead: str
    """The paragraph on top: what was done, and what came out."""
    sections: Sequence[Section]
    """A table of contents is made of more than two."""
    notes: Sequence[Note] = ()
    """Remarks and sources, numbered, at the end."""
    provenance: Sequence[tuple[str, str]] = ()
    """Names and values of what made the page, as `lorakit.pages.provenance` gives them."""
