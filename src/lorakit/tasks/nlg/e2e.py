"""E2E (Novikova et al., arXiv 1706.09254): a restaurant's attributes become a sentence.

Two kinds of files: the CSV of tuetschek/e2e-dataset with the columns mr and ref, and the text of
microsoft/LoRA, `name : Blue Spice | area : riverside||reference`, whose references are tokenized.
Inputs of both become the same line; the references stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorakit.errors import FormatError
from lorakit.tables.delimited import parse_csv
from lorakit.tasks.nlg.inputs import Entry

_SLOT = re.compile(r"\s*+([^\[\],\s][^\[\],]*+)\[([^\]]*+)\]\s*+(?:,|$)")
"""Possessive (`*+`), so that a cell of any length takes a time in proportion to it."""
_NAMES = {"eatType": "Type", "familyFriendly": "family friendly", "priceRange": "price"}
_SEPARATOR = "||"


def parse_text(text: str) -> Iterator[Entry]:
    """The entries of microsoft/LoRA's format; raises FormatError for a line without `||`."""
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if wrong := [f"line {n}" for n, line in lines if line.count(_SEPARATOR) != 1]:
        raise FormatError(f"some lines are not 'input{_SEPARATOR}reference'", wrong[:5])
    for _, line in lines:
        source, reference = line.split(_SEPARATOR)
        yield Entry(source.strip(), [reference])


def parse_table(text: str) -> Iterator[Entry]:
    """The entries of the CSV file; raises FormatError without the column mr."""
    columns = parse_csv(text)
    if "mr" not in columns:
        raise FormatError("it has no column mr", [f"its columns are {', '.join(columns)}"])
    references = columns.get("ref", [""] * len(columns["mr"]))
    for meaning, reference in zip(columns["mr"], references, strict=True):
        yield Entry(linearise(meaning), [reference])


def linearise(meaning: str) -> str:
    """A meaning representation as microsoft/LoRA's line; raises FormatError if it is none.

    >>> linearise("name[The Mill], eatType[pub], priceRange[£20-25]")
    'name : The Mill | Type : pub | price : £ 20 - 25'
    """
    slots, end = [], 0
    while end < len(meaning) and (found := _SLOT.match(meaning, end)):
        slots.append(_slot(*found.groups()))
        end = found.end()
    if not slots or end < len(meaning):
        raise FormatError(f"{meaning!r} is not a meaning representation 'name[...], area[...]'")
    return " | ".join(slots)


def _slot(name: str, value: str) -> str:
    if name == "priceRange":  # tokenized there
        value = re.sub(r"£(?=\d)", "£ ", re.sub(r"(?<=\d)-(?=\d)", " - ", value))
    return f"{_NAMES.get(name, name)} : {value}"
