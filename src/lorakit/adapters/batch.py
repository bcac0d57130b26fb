"""How many rows the batch of a forward has, against which the input of each module is checked.

A module sees no names of dimensions. What the model itself was given says how many rows there are
and how many tokens, and an input that begins with neither is not told apart by rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: Mapping[str, Any], in_pieces: bool) -> Batch | None:
        """That of a forward with these arguments; None if there is no tensor among them."""
        tensors = _tensors(args, kwargs)
        if not tensors:
            return None
        main = tensors[0]
        is_ids = not main.is_floating_point()
        leading = main.shape[:-1] if is_ids else main.shape[:-3]
        rows = [*accumulate(leading or main.shape[:1], mul)]
        tokens = frozenset[int]()
        if is_ids or main.ndim == 3:
            lengths = (t.shape[1 if t.is_floating_point() else -1] for t in tensors if t.ndim > 1)
            tokens = frozenset(lengths)
        return cls(rows, tokens, in_pieces)

    def require(self, count: int) -> None:
        """Raise StateError if it is none of so many rows, each of them once or several times."""
        if 0 in self.rows or all(number % count for number in self.rows):
            raise _wrong_number("the model", min(self.rows), count)

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


def repeats(batch: Batch | None, place: str, rows: int, input: Tensor) -> int:
    """How many rows of the input of a module, in this batch, belong to each of these rows.

    Raises StateError for an input that is not made of the rows of the batch.
    """
    count = input.shape[0] if input.ndim else 0
    if count and batch is not None and not batch.has(input):
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
