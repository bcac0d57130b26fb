"""TER (Snover et al., 2006.amta-papers.25) as tercom 0.7.25 gives it, which WebNLG and DART use.

    TER = edits / length of the references on average, both summed over all texts

An edit inserts, deletes or replaces a word, or shifts words that the reference also has in a row.
Of several references the one with the fewest edits counts. Words stand between spaces, without
their case.

Shifts are searched greedily, with tercom's limits and in its order, which decides among equals and
so what can be shifted next: the longest words in a row first, the first in the text, the first in
the reference. A shift costs one edit, so it is done if it saves one, and once if it saves none; the
search ends where no shorter shift could save more. sacrebleu's search differs in each of these.

tercom fills a table for every shift that it tries. Here rapidfuzz counts, and the table is filled
only where it could come to another number: above `BEAM` edits.
Source: https://github.com/jhclark/tercom/blob/9f8d589/src/ter/TERcalc.java
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lorakit.metrics.edit_distance import BEAM, Step, Words, align, distance

_LONGEST_SHIFT, _FARTHEST_SHIFT = 10, 50

_WORD = re.compile(r"[^ \t\n\v\f\r]+")  # the spaces that Java's expressions know
_FIRST = -1  # behind no word

Shift = tuple[int, int]  # where the words start, and the word behind which they go
Places = dict[tuple[str, ...], list[int]]


def ter(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """0 for texts that equal a reference; blank references do not count.

    >>> ter(["in the centre a pub"], [["a pub in the centre"]])  # one shift
    0.2
    """
    edits, length = 0, 0.0
    for text, group in zip(predictions, references, strict=True):
        kept = [_words(reference) for reference in group if reference.strip()]
        edits += min(count_edits(_words(text), reference) for reference in kept)
        length += sum(map(len, kept)) / len(kept)
    return edits / length


def count_edits(text: Words, reference: Words) -> int:
    """Shifts, and the insertions, deletions and replacements after them."""
    places, shifts = _places(reference), 0
    while True:
        edits, steps = align(text, reference)
        shifted = _best_shift(text, reference, edits, _shifts(text, steps, places))
        if shifted is None:
            return shifts + edits
        text, shifts = shifted, shifts + 1


def _best_shift(
    text: Words, reference: Words, edits: int, shifts: list[list[Shift]]
) -> Words | None:
    """The text after the shift that leaves the fewest edits, if it costs no more than it saves."""
    best, chosen = edits, None
    for length in range(_LONGEST_SHIFT, 0, -1):
        for start, behind in shifts[length]:
            # Among equals the first shift counts, but any of them rather than none.
            wanted = best if chosen is None else best - 1
            if edits - wanted > 2 * length:  # what so many words could save
                return chosen
            shifted = _shifted(text, start, length, behind)
            cost = 1 + distance(shifted, reference)
            if BEAM + 1 < cost <= wanted:
                cost = 1 + align(shifted, reference)[0]
            if cost <= wanted:
                best, chosen = cost, shifted
    return chosen


def _shifts(text: Words, steps: list[Step], places: Places) -> list[list[Shift]]:
    """By length the shifts that may help: of wrong words, to where the reference's are wrong."""
    aligned, text_wrong, reference_wrong = _aligned(steps)
    shifts: list[list[Shift]] = [[] for _ in range(_LONGEST_SHIFT + 1)]
    for start in range(len(text)):
        for length in range(1, min(_LONGEST_SHIFT, len(text) - start) + 1):
            found = places.get(tuple(text[start : start + length]))
            if found is None:
                break
            if not any(text_wrong[start : start + length]):
                continue
            for there in found:
                if start <= aligned[there] < start + length:
                    continue
                if abs(aligned[there] - start) > _FARTHEST_SHIFT:
                    continue
                if any(reference_wrong[there : there + length]):
                    landings = _landings(aligned, there, length)
                    shifts[length] += [(start, behind) for behind in landings if behind != start]
    return shifts


def _landings(aligned: list[int], there: int, length: int) -> Iterator[int]:
    """The words of the text behind which the words at `there` in the reference can be put."""
    yield aligned[there - 1] if there else _FIRST
    for place in range(there, there + length):
        if place == there or aligned[place] != aligned[there]:
            yield aligned[place]


def _places(reference: Words) -> Places:
    """Where words in a row begin in the reference."""
    places: Places = {}
    for start in range(len(reference)):
        for end in range(start + 1, min(start + _LONGEST_SHIFT, len(reference)) + 1):
            places.setdefault(tuple(reference[start:end]), []).append(start)
    return places


def _aligned(steps: list[Step]) -> tuple[list[int], list[bool], list[bool]]:
    """The text's word for each word of the reference, and which words of both are wrong."""
    aligned, text_wrong, reference_wrong = [], [], []
    at = _FIRST
    for step in steps:
        if step != Step.INSERT:
            at += 1
            text_wrong.append(step != Step.SAME)
        if step != Step.DELETE:
            aligned.append(at)
            reference_wrong.append(step != Step.SAME)
    return aligned, text_wrong, reference_wrong


def _shifted(text: Words, start: int, length: int, behind: int) -> Words:
    """The text with words moved behind another; behind one of themselves: as far to the right."""
    moved, rest = text[start : start + length], text[:start] + text[start + length :]
    if behind < start:
        place = behind + 1
    elif behind < start + length:
        place = behind
    else:
        place = behind - length + 1
    return rest[:place] + moved + rest[place:]


def _words(text: str) -> Words:
    return _WORD.findall(text.lower())
