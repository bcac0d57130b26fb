"""Plain text as rows of one column, `text`: paragraphs, or lines where no empty line parts any."""

from __future__ import annotations

import re

from lorakit.errors import FormatError

Columns = dict[str, list[str]]


def parse_text(text: str) -> Columns:
    """The column of texts; FormatError for lines that could as well be rows of a table.

    >>> parse_text("one\\ntwo\\n"), parse_text("one\\ntwo\\n\\nthree\\n")
    ({'text': ['one', 'two']}, {'text': ['one\\ntwo', 'three']})
    """
    lines = text.splitlines()
    filled = [line for line in lines if line.strip()]
    if filled and all("\t" in line for line in filled):
        raise FormatError(
            "each line has a tab: name the file .tsv if it is a table, with a header, or replace "
            "the tabs if it is text"
        )
    paragraphs = re.split(r"\n(?:[^\S\n]*\n)+", "\n".join(lines).strip("\n"))
    found = filled if len(paragraphs) < 2 else paragraphs
    return {"text": [part for part in found if part.strip()]}
