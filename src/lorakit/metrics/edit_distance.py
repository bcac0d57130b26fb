"""Edits of words: their number, by rapidfuzz, and which ones, as tercom finds them.

`distance` gives the number, fast. `align` gives the edits too, and looks for them in tercom's beam:
a cell whose cost exceeds the best replacement's of the column before by more than `BEAM` is not
followed. So `align` can find more edits than there need be, but only where there are more than
`BEAM` of them: no cell on a shortest path costs more than the whole path. With fewer it follows no
cell that costs more than all of them.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import cache
from typing import Any

from lorakit.metrics.optional import imported

BEAM = 20

Words = list[str]


class Step(IntEnum):
    """What becomes of a word; of those that cost the same the first is taken."""

    SAME = 0
    REPLACE = 1
    DELETE = 2
    INSERT = 3


Column = list[
    tuple[float, Step]
]  # for each place in the reference the cost so far and the last step


def distance(text: Words, reference: Words) -> int:
    """Levenshtein's distance of words; raises MissingDependencyError without rapidfuzz."""
    edits: int = _levenshtein().distance(text, reference)
    return edits


@cache
def _levenshtein() -> Any:
    return imported("rapidfuzz.distance.Levenshtein")


def align(text: Words, reference: Words) -> tuple[int, list[Step]]:
    """The number of edits from text to reference within tercom's beam, and each word's step.

    >>> align(["a", "x"], ["a", "b"])
    (1, [<Step.SAME: 0>, <Step.REPLACE: 1>])
    """
    exact = distance(text, reference)
    most = exact if exact <= BEAM else len(text) + len(reference)  # a path that costs no more
    columns: list[Column] = [[(0, Step.SAME), *[(math.inf, Step.SAME)] * len(reference)]]
    limit, first, last = float(most), 0, 0
    for word in text:
        followed = _insert(columns[-1], limit, first, last)
        following, cheapest = _pass(word, reference, columns[-1], followed)
        columns.append(following)
        limit, first, last = min(cheapest + BEAM, most), followed[0], followed[-1] + 1
    _insert(columns[-1], most, first, last)
    return int(columns[-1][-1][0]), _path(columns)


def _insert(column: Column, limit: float, first: int, last: int) -> list[int]:
    """Insert words of the reference down the column; the places within the beam."""
    followed = []
    for place in range(first, len(column)):
        if place > last:
            break
        cost = column[place][0]
        if cost > limit:
            continue
        followed.append(place)
        if place + 1 < len(column) and cost + 1 < column[place + 1][0]:
            column[place + 1] = cost + 1, Step.INSERT
            last = max(last, place + 1)
    return followed


def _pass(word: str, reference: Words, column: Column, followed: list[int]) -> tuple[Column, float]:
    """The column behind a word of the text, and its cheapest cell that keeps or replaces it."""
    following: Column = [(math.inf, Step.SAME)] * len(column)
    cheapest = math.inf
    for place in followed:
        cost = column[place][0]
        if cost + 1 < following[place][0]:
            following[place] = cost + 1, Step.DELETE
        if place < len(reference):
            same = word == reference[place]
            following[place + 1] = cost + (not same), Step.SAME if same else Step.REPLACE
            cheapest = min(cheapest, following[place + 1][0])
    return following, cheapest


def _path(columns: list[Column]) -> list[Step]:
    steps, place = [], len(columns[0]) - 1
    left = len(columns) - 1
    while left or place:
        step = columns[left][place][1]
        steps.append(step)
        left -= step != Step.INSERT
        place -= step != Step.DELETE
    return steps[::-1]
