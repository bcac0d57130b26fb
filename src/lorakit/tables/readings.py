"""How the rows of a table were read: what training logs, and what there is to say of a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from lorakit.tables.text_files import UTF_8


@dataclass(frozen=True)
class Reading:
    """How a table was read from a file; `reading_of` tells it of a table."""

    format: str
    """CSV, TSV, JSON lines, JSON or Parquet, by the file's name."""
    separator: str | None = None
    """The character between the cells, where it was looked for."""
    quotes: bool = True
    """Whether quotes enclose cells, or are characters of them."""
    encoding: str | None = None
    """Of text: UTF-8, with or without a byte order mark, or UTF-16."""
    parts: tuple[Reading, ...] = ()
    """How each file was read, of several that are one table."""

    @property
    def notes(self) -> list[str]:
        """What the file's name does not say."""
        usual = {"CSV": ",", "TSV": "\t"}.get(self.format)
        between = {"\t": "tabs", ",": "commas"}.get(str(self.separator), self.separator)
        found = {
            f"{between} between the cells": self.separator not in (None, usual),
            "quotes as characters": not self.quotes,
            str(self.encoding): self.encoding not in (None, UTF_8),
            f"{len(self.parts):,} files as one table": bool(self.parts),
        }
        own = [note for note, holds in found.items() if holds]
        return [*own, *dict.fromkeys(note for part in self.parts for note in part.notes)]

    def __str__(self) -> str:
        return ", ".join([self.format, *self.notes])


def several(readings: Iterable[Reading]) -> Reading:
    """How files were read that are one table; of one file its own."""
    first, *others = readings
    return Reading(first.format, parts=(first, *others)) if others else first


_READINGS: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()


def reading_of(table: Any) -> Reading | None:
    """How `read_table` has read this very `table`; None for one that does not come from a file.

    A table that was made of it, such as by `select`, has none.
    """
    return _READINGS.get(table)


def reading_text(table: Any, source: str) -> str | None:
    """A sentence about how the table was read; None if the source's name says it all."""
    reading = reading_of(table)
    if reading is None or not reading.notes:
        return None
    return f"{source} was read with {', '.join(reading.notes)}"


def read_as(table: Any, reading: Reading) -> Any:
    """The table, of which `reading_of` tells how it was read."""
    _READINGS[table] = reading
    return table
