"""The rows of data-to-text: one a distinct input, with all its references.

The files have a row for each reference, or several entries for one input. A system writes one text
for an input and is scored with all references of it, so they are put together here, and inputs
that are split off for testing have none in common with those of the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.errors import FormatError

INPUT, REFERENCES, CATEGORY, SEEN = "input", "references", "category", "seen"

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Entry:
    """One entry of a file: an input as text, and some of its references."""

    text: str
    references: Sequence[str]
    category: str | None = None
    seen: bool | None = None
    """Whether the category occurs in the training set, where the corpus tells that."""


def triples_text(triples: Iterable[Sequence[str]]) -> str:
    """Triples in one line, as microsoft/LoRA writes them.

    >>> triples_text([("Aarhus_Airport", "cityServed", "Aarhus"), ("Aarhus", "country", "Denmark")])
    'Aarhus_Airport : cityServed : Aarhus | Aarhus : country : Denmark'
    """
    return " | ".join(" : ".join(triple) for triple in triples)


def split_triple(text: str) -> list[str]:
    """Subject, property and object of `a | b | c`; raises FormatError for anything else."""
    parts = [part.strip() for part in str(text).split(" | ", 2)]
    if len(parts) != 3:
        raise FormatError(f"{text!r} is not a triple 'subject | property | object'")
    return parts


def table_of(entries: Iterable[Entry]) -> Columns:
    """Columns of a table with one row a distinct input, in the order in which they first occur.

    Blank references are left out. References have a column unless no input has any: then the texts
    are still to be written. There are columns category and seen if an entry has them.
    Raises FormatError if some inputs have references and others none.
    """
    first: dict[str, Entry] = {}
    references: dict[str, list[str]] = {}
    for entry in entries:
        first.setdefault(entry.text, entry)
        there = references.setdefault(entry.text, [])
        there += [text.strip() for text in entry.references if text.strip()]
    blank = [text for text, there in references.items() if not there]
    written = len(blank) < len(references)
    if blank and written:
        more = [f"and {len(blank) - 5} more"] if len(blank) > 5 else []
        raise FormatError("these inputs have no reference", [*map(repr, blank[:5]), *more])
    columns: Columns = {INPUT: list(first)}
    columns |= {REFERENCES: list(references.values())} if written else {}
    for name in (CATEGORY, SEEN):
        values = [getattr(entry, name) for entry in first.values()]
        columns |= {name: values} if any(value is not None for value in values) else {}
    return columns


def checked(entries: Iterable[Entry]) -> list[Entry]:
    """The entries; raises FormatError for a blank input, and a reference that is not a string."""
    found = list(entries)
    for number, entry in enumerate(found, start=1):
        if not entry.text.strip():
            raise FormatError(f"entry {number} has an empty input")
        if wrong := [text for text in entry.references if not isinstance(text, str)]:
            raise FormatError(f"a reference of entry {number} is not a string: {wrong[0]!r}")
    return found
