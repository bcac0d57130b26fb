"""A row of words as examples: one, or a window each where it is too long for one.

The first piece of a word carries its tag, and stands for it in the logits:

    words    Angela  lives  Uckermark
    tags     3       0      1
    ids      [CLS] angela lives uck ##er ##mark [SEP]
    labels     -     3      0    1   -     -      -        -: IGNORED
    answers          1      2    3
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from lorakit.tasks.base import TRUNCATED, Example
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.word_pieces import Frame
from lorakit.tasks.word_windows import Window, windows

ANSWERS = "answers"
"""The places of the words' first pieces, of the words that an example answers for."""
CONTINUES = "continues"
"""Whether an example is a further window of the row before."""


def word_examples(
    frame: Frame, pieces: Sequence[Sequence[int]], tags: Sequence[int] | None, room: int
) -> Iterator[Example]:
    """The examples of a row of words, given by the ids of their pieces, with tags if it has any.

    Of a word of more than `room` pieces the first ones are taken.
    """
    pieces = [ids[:room] for ids in pieces]
    for window in windows([len(ids) for ids in pieces], room):
        yield _example(frame, pieces, tags, window)


def _example(
    frame: Frame, pieces: Sequence[Sequence[int]], tags: Sequence[int] | None, window: Window
) -> Example:
    inside = pieces[window.start : window.stop]
    places = [*accumulate(map(len, inside), initial=len(frame.before["input_ids"]))]
    inputs = frame.around([piece for ids in inside for piece in ids])
    answers = places[window.first - window.start : window.last - window.start]
    example = {**inputs, ANSWERS: answers, CONTINUES: window.start > 0, TRUNCATED: False}
    if tags is None:
        return example
    labels = [IGNORED] * len(inputs["input_ids"])
    for place, tag in zip(answers, tags[window.first : window.last], strict=True):
        labels[place] = tag
    return {**example, "labels": labels}


def own_words(values: Tensor, examples: Sequence[Example]) -> list[Tensor]:
    """What a batch (B, T, ...) has of the words that each example answers for."""
    return [row[example[ANSWERS]] for row, example in zip(values, examples, strict=True)]


def joined_rows(parts: Sequence[Tensor], examples: Sequence[Example]) -> list[Tensor]:
    """The parts of each row's windows together: one tensor a row."""
    rows: list[list[Tensor]] = []
    for part, example in zip(parts, examples, strict=True):
        if not example[CONTINUES]:
            rows.append([])
        rows[-1].append(part)
    return [torch.cat(row) for row in rows]
