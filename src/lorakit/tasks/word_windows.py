"""Words of a long row in windows, of which each answers for a part of them.

words    a b c d e f g h i j         each word is answered for in one window: of those that it
windows  a b c d e f                 is in, where it has more words around it
                 e f g h i j
answers  a b c d e | f g h i j
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_SHARED = 4
"""Windows share at most this part of their tokens with the next one."""


@dataclass(frozen=True)
class Window:
    """The words `start` to `stop` of a row, of which it answers for `first` to `last`.

    `stop` and `last` are not included.
    """

    start: int
    stop: int
    first: int
    last: int


def windows(sizes: Sequence[int], room: int) -> list[Window]:
    """Windows of at most `room` tokens for words of these numbers of tokens, each of which fits.

    >>> windows([1] * 10, 8)
    [Window(start=0, stop=8, first=0, last=7), Window(start=6, stop=10, first=7, last=10)]
    """
    spans = _spans(sizes, room)
    middles = [(following[0] + span[1]) // 2 for span, following in pairwise(spans)]
    edges = [0, *middles, len(sizes)]
    return [Window(*span, *part) for span, part in zip(spans, pairwise(edges), strict=True)]


def _spans(sizes: Sequence[int], room: int) -> list[tuple[int, int]]:
    """(start, stop) of each window."""
    spans = []
    start = stop = used = 0
    while True:
        while stop < len(sizes) and used + sizes[stop] <= room:
            used, stop = used + sizes[stop], stop + 1
        spans.append((start, stop))
        if stop == len(sizes):
            return spans
        while used > room // _SHARED or used + sizes[stop] > room:
            used, start = used - sizes[start], start + 1
