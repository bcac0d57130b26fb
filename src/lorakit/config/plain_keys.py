"""Pattern keys that are plain names, looked up for all at once.

As in every regular expression a dot stands for any letter, so that `a.q` is the key of `a.q`, of
`x.a.q` and of `a_q`. Keys of one length with dots in the same places are one table, in which a name
is looked up with these places blanked: a file may have a key for each module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_PLAIN = re.compile(r"[\w.-]+")

Dots = tuple[int, ...]


def is_plain(key: str) -> bool:
    """Whether a key is a name, with no more of a regular expression than its dots."""
    return _PLAIN.fullmatch(key) is not None


class PlainKeys:
    """The numbers of plain keys, by the names that they match."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._tables: dict[int, dict[Dots, dict[str, list[int]]]] = {}
        for key, number in numbers.items():
            dots = tuple(place for place, letter in enumerate(key) if letter == ".")
            table = self._tables.setdefault(len(key), {}).setdefault(dots, {})
            table.setdefault(_blanked(key, dots), []).append(number)

    def matching(self, name: str) -> Iterator[int]:
        """The numbers of the keys that match this name, or its end after a dot."""
        if not self._tables:
            return
        for start in (0, *(place + 1 for place, letter in enumerate(name) if letter == ".")):
            ending = name[start:]
            for dots, table in self._tables.get(len(ending), {}).items():
                yield from table.get(_blanked(ending, dots), ())


def _blanked(text: str, places: Dots) -> str:
    letters = list(text)
    for place in places:
        letters[place] = "."
    return "".join(letters)
