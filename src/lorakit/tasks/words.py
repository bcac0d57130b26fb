"""The words of a cell: a list of them, or a text, which is split at white space.

Where the words of the training data have punctuation marks as words of their own, as CoNLL's do, so
they have in a text: marks at either end of a word are words. Tags of a text stand between spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lorakit.tables.cells import is_blank, label_name, list_in, text_problem
from lorakit.tasks.label_lists import as_list

Place = tuple[int, int]
"""First and last character, the latter not included."""


def words_of(cell: Any, parts_marks: bool = False) -> list[str]:
    """
    >>> words_of(["EU", "rejects", 5]), words_of("In (old) Rome."), words_of("In Rome.", True)
    (['EU', 'rejects', '5'], ['In', '(old)', 'Rome.'], ['In', 'Rome', '.'])
    >>> words_of(None), words_of(5)
    ([], ['5'])
    """
    words = list_in(cell)
    if words is not None:
        return [str(word) for word in words]
    text = "" if is_blank(cell) else str(cell)
    return [text[first:last] for first, last in places(text, parts_marks)]


def places(text: str, parts_marks: bool = False) -> list[Place]:
    """Where the words of a text stand.

    >>> places("U.S. (old)", parts_marks=True)
    [(0, 3), (3, 4), (5, 6), (6, 9), (9, 10)]
    """
    chunks = [match.span() for match in re.finditer(r"\S+", text)]
    if not parts_marks:
        return chunks
    return [place for first, last in chunks for place in _parted(text, first, last)]


def tags_of(cell: Any) -> list[str]:
    """The tags in a cell; raises ConfigError for what is no tag.

    >>> tags_of(["B-PER", "O"]), tags_of("B-PER O"), tags_of([3, 0])
    (['B-PER', 'O'], ['B-PER', 'O'], ['3', '0'])
    """
    return [label_name(tag) for tag in as_list(_listed(cell))]


def tags_in(cells: Iterable[Any]) -> Iterator[str]:
    """The tags in all of the cells, without what is none.

    >>> [*tags_in([["O", None], None, "B-X O"])]
    ['O', 'B-X', 'O']
    """
    lists = (list_in(_listed(cell)) or [] for cell in cells)
    return (label_name(tag) for tags in lists for tag in tags if not is_blank(tag))


def _listed(cell: Any) -> Any:
    """The cell, or the parts of a text that is no list."""
    return cell.split() if isinstance(cell, str) and list_in(cell) is None else cell


def words_problem(cell: Any) -> str | None:
    """What is wrong with a list of words."""
    words = list_in(cell)
    if not words:
        return "is an empty list"
    if None in words:
        return "has None in a list of words"
    problem = next(filter(None, map(text_problem, words)), None)
    return problem and f"has a word that {problem}"


def have_marks_apart(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether punctuation marks are words of their own."""
    return any(len(word) == 1 and _is_mark(word) for words in sentences for word in words)


def _parted(text: str, first: int, last: int) -> list[Place]:
    """The marks in front, what is between, the marks behind."""
    start, stop = first, last
    while start < last and _is_mark(text[start]):
        start += 1
    while stop > start and _is_mark(text[stop - 1]):
        stop -= 1
    before = [(i, i + 1) for i in range(first, start)]
    between = [(start, stop)] if start < stop else []
    return [*before, *between, *((i, i + 1) for i in range(stop, last))]


def _is_mark(letter: str) -> bool:
    """Punctuation or a currency. (`\\W` would also be the vowel signs of Indian scripts.)"""
    kind = unicodedata.category(letter)
    return kind.startswith("P") or kind == "Sc"
