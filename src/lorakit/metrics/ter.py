"""TER (Snover et al., 2006.amta-papers.25) as tercom 0.7.25 gives it, which WebNLG and DART use.

    TER = edits / length of the references on average, both summed over all texts

An edit inserts, deletes or replaces a word, or shifts words that the reference also has in a row.
Shifts are searched greedily: the best one is done until none helps. Of several references the one
with the fewest edits counts. Words stand between spaces, without case.

sacrebleu computes the same, but fills a table of distances for each shift that it tries, which
takes a quarter of an hour for WebNLG's test set. Here the distance alone is computed, bit-parallel
(`Distance`), and the table once for each shift that is done. tercom looks for the distance in a
beam around the diagonal; here it is exact.
Source: the rules of tercom as sacrebleu 2.6 states them, `sacrebleu/metrics/lib_ter.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_LONGEST_SHIFT, _FARTHEST_SHIFT, _MOST_SHIFTS = 10, 50, 1000

Words = list[str]


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
    distance = Distance(reference)
    left, shifts, tried = distance(text), 0, 0
    while left:
        best: tuple[int, int, int, int, Words] | None = None
        for length, start, target in _shifts(text, reference):
            shifted = _shifted(text, start, length, target)
            # The greatest gain, then the longest, the first, the one that lands first.
            candidate = (left - distance(shifted), length, -start, -target, shifted)
            best = candidate if best is None else max(best, candidate)
            tried += 1
            if tried >= _MOST_SHIFTS:
                return shifts + left
        if best is None or best[0] <= 0:
            break
        text, left, shifts = best[-1], left - best[0], shifts + 1
    return shifts + left


class Distance:
    """Levenshtein's distance of words from one reference (Hyyrö 2003, after Myers 1999).

    Bit j of `up` and `down` says whether the table's column rises or falls by one at the
    reference's word j; a word of the text moves to the next column in a few operations on integers.
    """

    def __init__(self, reference: Words) -> None:
        self.length = len(reference)
        self.places: dict[str, int] = {}
        for place, word in enumerate(reference):
            self.places[word] = self.places.get(word, 0) | 1 << place

    def __call__(self, text: Words) -> int:
        if not self.length:
            return len(text)
        full, last = (1 << self.length) - 1, 1 << (self.length - 1)
        up, down, distance = full, 0, self.length
        for word in text:
            equal = self.places.get(word, 0)
            diagonal = (((equal & up) + up) ^ up) | equal | down
            right, left = down | (full & ~(diagonal | up)), diagonal & up
            distance += bool(right & last) - bool(left & last)
            right = right << 1 | 1
            up = (left << 1 | ~(diagonal | right)) & full
            down = right & diagonal & full
        return distance


def _shifts(text: Words, reference: Words) -> Iterator[tuple[int, int, int]]:
    """Length, start and target of the shifts that may help: words that are wrong in both places."""
    place, text_wrong, reference_wrong = _aligned(text, reference)
    for start, there, length in _common(text, reference):
        if not any(text_wrong[start : start + length]):
            continue
        if not any(reference_wrong[there : there + length]):
            continue
        if start <= place[there] < start + length:
            continue
        before = None
        for offset in range(there - 1, there + length):
            if offset >= len(place):
                break
            target = 0 if offset < 0 else place[offset] + 1
            if target != before:
                before = target
                yield length, start, target


def _common(text: Words, reference: Words) -> Iterator[tuple[int, int, int]]:
    """Where words in a row stand in both, and how many: all prefixes of each such run."""
    for start, word in enumerate(text):
        for there in [place for place, other in enumerate(reference) if other == word]:
            if abs(there - start) > _FARTHEST_SHIFT:
                continue
            run = zip(text[start : start + _LONGEST_SHIFT], reference[there:], strict=False)
            for length, (own, other) in enumerate(run, start=1):
                if own != other:
                    break
                yield start, there, length


def _aligned(text: Words, reference: Words) -> tuple[list[int], list[bool], list[bool]]:
    """The text's place for each word of the reference, and which words of both are wrong."""
    place, text_wrong, reference_wrong = [], [], []
    at = -1
    for step in _steps(text, reference):
        if step != _INSERT:
            at += 1
            text_wrong.append(step != _SAME)
        if step != _DELETE:
            place.append(at)
            reference_wrong.append(step != _SAME)
    return place, text_wrong, reference_wrong


_SAME, _REPLACE, _DELETE, _INSERT = range(4)  # ties go to the first


def _steps(text: Words, reference: Words) -> list[int]:
    """The edits from text to reference, word by word."""
    rows = [[(i, _INSERT) for i in range(len(reference) + 1)]]
    for i, word in enumerate(text, start=1):
        above, row = rows[-1], [(i, _DELETE)]
        for j, other in enumerate(reference, start=1):
            diagonal = (above[j - 1][0] + (word != other), _REPLACE if word != other else _SAME)
            row.append(min(diagonal, (above[j][0] + 1, _DELETE), (row[-1][0] + 1, _INSERT)))
        rows.append(row)
    steps, i, j = [], len(text), len(reference)
    while i or j:
        step = rows[i][j][1]
        steps.append(step)
        i, j = i - (step != _INSERT), j - (step != _DELETE)
    return steps[::-1]


def _shifted(text: Words, start: int, length: int, target: int) -> Words:
    """The words with `length` of them moved from `start` to before `target`."""
    moved, rest = text[start : start + length], text[:start] + text[start + length :]
    # A target within themselves counts from their start, as tercom has it.
    place = target - length if target > start + length else target
    return rest[:place] + moved + rest[place:]


def _words(text: str) -> Words:
    return text.lower().split()
