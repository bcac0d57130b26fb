"""How many rows the batch of a forward has, against which the input of each module is checked.

A module sees no names of dimensions. What the model itself was given says how many rows there are
and how many tokens, and an input that begins with neither is not told apart by rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

from torch import Tensor

from lorakit.errors import StateError

_MAIN = (
    "input_ids",
    "inputs_embeds",
    "decoder_input_ids",
    "decoder_inputs_embeds",
    "pixel_values",
    "input_features",
    "input_values",
)
"""transformers' names of what has the rows of a batch; elsewhere the first tensor has them."""


class Batch(NamedTuple):
    """What is known of the forward that runs."""

    rows: Sequence[int]
    """Sizes of a first dimension that is the rows', with their choices, or frames, or without."""
    tokens: frozenset[int]
    """Tokens of a row; empty where that is not known."""
    in_pieces: bool
    """Whether the model cuts rows into pieces."""
    outer: Batch | None
    """Of the forward within which this one is."""

    def has(self, input: Tensor) -> bool:
        """Whether this input of a module begins with the rows, or has one after another."""
        count, by_token = input.shape[0], input.ndim - input.is_floating_point() > 1
        if count in self.rows:
            is_ids = not by_token and not input.is_floating_point()
            return not (is_ids and count > 1 and count in self.tokens)  # positions of tokens
        if by_token:
            return self.in_pieces and count % self.rows[0] == 0
        if not self.tokens:
            return count % self.rows[0] == 0
        return any(count == rows * tokens for rows in self.rows for tokens in self.tokens)


_HERE: ContextVar[Batch | None] = ContextVar("AdapterSet.batch", default=None)


def begin(count: int, args: Sequence[Any], kwargs: Mapping[str, Any], in_pieces: bool) -> None:
    """A forward of the model begins, with these arguments and `count` rows named.

    Raises StateError where that is no batch of these rows.
    """
    tensors = _tensors(args, kwargs)
    main = next(iter(tensors), None)
    outer = _HERE.get()
    if main is None:
        _HERE.set(Batch((), frozenset(), in_pieces, outer))
        return
    is_ids = not main.is_floating_point()
    leading = main.shape[:-1] if is_ids else main.shape[:-3]
    rows = [*accumulate(leading or main.shape[:1], mul)]
    tokens = frozenset[int]()
    if is_ids or main.ndim == 3:
        lengths = (t.shape[1 if t.is_floating_point() else -1] for t in tensors if t.ndim > 1)
        tokens = frozenset(lengths)
    _HERE.set(Batch(rows, tokens, in_pieces, outer))
    if all(number % count for number in rows):
        raise _wrong_number("the model", rows[0], count)


def end() -> None:
    """It ends."""
    if (batch := _HERE.get()) is not None:
        _HERE.set(batch.outer)


@contextmanager
def unknown() -> Iterator[None]:
    """Inside no forward has begun."""
    before = _HERE.set(None)
    try:
        yield
    finally:
        _HERE.reset(before)


def repeats(place: str, rows: int, input: Tensor) -> int:
    """How many rows of the input belong to each of these rows.

    Raises StateError for an input that is not made of the rows of the batch.
    """
    count = input.shape[0] if input.ndim else 0
    batch = _HERE.get()
    if count and batch is not None and batch.rows and not batch.has(input):
        shape = tuple(input.shape)
        raise StateError(
            f"{place} has an input of the shape {shape} in a batch of {batch.rows[0]} rows: its "
            "first dimension is not that of the rows, so it is not known which part has which "
            "adapter. Choose one adapter for all rows with activate(), or load adapters without "
            "this module."
        )
    if count == 0 or count % rows:
        raise _wrong_number(place, count, rows)
    return count // rows


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors among arguments, and in a dict that is one; the first has the rows."""
    named: dict[str, Any] = {}
    for mapping in (*(arg for arg in args if isinstance(arg, Mapping)), kwargs):
        named |= mapping
    known = [named.pop(name, None) for name in _MAIN]
    values = [*args, *known, *named.values()]
    return [value for value in values if isinstance(value, Tensor) and value.ndim]


def _wrong_number(place: str, found: int, named: int) -> StateError:
    return StateError(
        f"Wrong number of rows: {place} has an input of {found}, and rows() named {named} "
        "adapters; name one for each row of the batch (generate may repeat each row, as beams)."
    )
