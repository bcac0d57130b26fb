"""Which tables have tags of words, and how their files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lorakit.errors import FormatError
from lorakit.foreign_files import local_path
from lorakit.tables.cells import is_blank, list_in
from lorakit.tables.conll import TOKENS, is_tagged, may_be_columns
from lorakit.tables.reading import parse_file, read_table, to_table
from lorakit.tables.text_files import kind_of, lines_of
from lorakit.tasks.guessing import by_lower_case
from lorakit.tasks.spec import Columns

_WORDS = (TOKENS, "words")
_TAGS = ("ner_tags", "tags", "ner", "labels", "pos_tags", "upos")
_LOOKED_AT = 100
"""Rows by whose cells the lists are told."""


def tag_columns(table: Any, given: Columns) -> Columns | None:
    """The column of words and the one of their tags."""
    names = by_lower_case(table)
    words = _first(names, _WORDS)
    tags = given.label or _first(names, _TAGS)
    if words is None or tags is None:
        return None
    if given.task is None and not _are_lists_of_one_length(table, words, tags):
        return None
    return replace(given, text=(words,), label=tags)


def read_sentences(source: str, split: str) -> Any:
    """The rows as `read_table` reads them; of a text file without tags its lines as rows."""
    path = local_path(source)
    if kind_of(path) != ".txt" or path.is_dir() or is_tagged(lines_of(path)):
        return read_table(source, split)
    return to_table(parse_file(path, lambda *_: _lines), source)


def _lines(text: str) -> dict[str, list[str]]:
    if may_be_columns(text):
        raise FormatError(
            "all of its lines have equally many words, so it may have a word a line with its tag, "
            "or a sentence a line; let its name end in .conll, or pass the sentences in a table"
        )
    return {TOKENS: [line for line in text.split("\n") if line.strip()]}


def _first(names: Mapping[str, str], wanted: tuple[str, ...]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _are_lists_of_one_length(table: Any, words: str, tags: str) -> bool:
    """Whether the cells of both columns are lists, of the same lengths in most rows."""
    cells = zip(table[words][:_LOOKED_AT], table[tags][:_LOOKED_AT], strict=True)
    lengths = [
        (_length(word), _length(tag))
        for word, tag in cells
        if not is_blank(word) and not is_blank(tag)
    ]
    same = sum(word == tag for word, tag in lengths)
    return not any(None in pair for pair in lengths) and 2 * same > len(lengths)


def _length(cell: Any) -> int | None:
    found = list_in(cell)
    return None if found is None else len(found)
