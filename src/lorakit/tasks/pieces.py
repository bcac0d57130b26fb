"""An example as text for people, in pieces: what the model reads, and what it learns of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

BETWEEN = " -> "
"""Between what is read and what is learned, where they do not stand in one text."""


@dataclass(frozen=True)
class Piece:
    """A part of an example."""

    text: str
    learned: bool = False
    """Whether the loss counts it."""


def answered(read: str, learned: str) -> list[Piece]:
    """What is learned beside what is read."""
    return [Piece(f"{read}{BETWEEN}"), Piece(learned, learned=True)]


def decoded_runs(tokenizer: Any, ids: Sequence[int], learned: Sequence[bool]) -> list[Piece]:
    """Tokens as text, with a piece for each run of tokens that are learned, or are not."""
    pieces, text, start = [], "", 0
    for is_learned, stop in _runs(learned):
        whole = tokenizer.decode(ids[:stop])
        # A tokenizer may write a token otherwise where a text begins with it.
        continues = whole.startswith(text)
        part = whole[len(text) :] if continues else tokenizer.decode(ids[start:stop])
        pieces.append(Piece(part, is_learned))
        text, start = whole, stop
    return pieces


def _runs(learned: Sequence[bool]) -> Iterator[tuple[bool, int]]:
    """Each run of equal values, and where it stops."""
    stop = 0
    for value, run in groupby(learned):
        stop += len(list(run))
        yield value, stop
