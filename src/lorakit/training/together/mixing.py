"""The inputs of several forwards as batches in which rows of all of them stand together.

Rows are sorted by length and cut as the micro-batches of a step are (`tasks.batching`), so that a
batch has little padding, whichever forward its rows are of. In a batch those of one forward stand
side by side. Padding is on the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.errors import StateError
from lorakit.tasks.batching import cut

Arguments = Mapping[str, Any]
"""Of a forward, by name."""
IDS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class Mixed:
    """A batch, and whose rows are in it: by name, their numbers in the inputs of that forward."""

    arguments: Arguments
    rows: Mapping[str, Sequence[int]]
    tokens: int
    """Of its longest row."""

    @property
    def names(self) -> list[str]:
        """Whose each row is."""
        return [name for name, rows in self.rows.items() for _ in rows]

    def parts(self) -> Iterator[tuple[str, slice, Tensor]]:
        """Of each forward: its name, where its rows are here, and where they are there."""
        start = 0
        for name, rows in self.rows.items():
            yield name, slice(start, start + len(rows)), torch.tensor(rows)
            start += len(rows)


def mixed(forwards: Mapping[str, Arguments], token_budget: int, padding: int) -> list[Mixed]:
    """The batches of these forwards' rows; `padding` fills rows of token ids."""
    lengths = [
        (length, name, row)
        for name, arguments in forwards.items()
        for row, length in enumerate(_lengths(name, arguments))
    ]
    lengths.sort(key=lambda item: item[0])
    batches = []
    for start, stop in cut([length for length, _, _ in lengths], token_budget):
        chosen = lengths[start:stop]
        rows = {name: [row for _, n, row in chosen if n == name] for name in forwards}
        rows = {name: own for name, own in rows.items() if own}
        tokens = chosen[-1][0]
        batches.append(Mixed(_arguments(forwards, rows, tokens, padding), rows, tokens))
    return batches


def _lengths(name: str, arguments: Arguments) -> list[int]:
    ids, mask = arguments[IDS], arguments.get(MASK)
    if mask is None:
        return [ids.shape[1]] * len(ids)
    lengths = mask.sum(1)
    on_the_right = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
    if not torch.equal(mask.bool(), on_the_right):
        raise StateError(f"{name} pads its rows on the left; padding_side has to be right.")
    found: list[int] = lengths.tolist()
    return found


def _arguments(
    forwards: Mapping[str, Arguments], rows: Mapping[str, Sequence[int]], tokens: int, padding: int
) -> dict[str, Any]:
    names = dict.fromkeys(key for name in rows for key in forwards[name])
    return {
        key: _joined(key, {n: forwards[n].get(key) for n in rows}, forwards, rows, tokens, padding)
        for key in names
    }


def _joined(
    key: str,
    values: Mapping[str, Any],
    forwards: Mapping[str, Arguments],
    rows: Mapping[str, Sequence[int]],
    tokens: int,
    padding: int,
) -> Any:
    """One argument for all rows: tensors row by row, anything else has to be the same for all."""
    if not any(isinstance(value, Tensor) for value in values.values()):
        first, *others = values.values()
        if any(other != first for other in others):
            raise StateError(f"The forwards of one batch differ in {key}: {dict(values)}.")
        return first
    fill = padding if key == IDS else 0
    parts = []
    for name, value in values.items():
        ids = forwards[name][IDS]
        if value is not None and value.shape[:2] != ids.shape:
            raise StateError(
                f"{name}: {key} has the shape {tuple(value.shape)} beside {IDS} of "
                f"{tuple(ids.shape)}, so its rows cannot be mixed with others."
            )
        if value is None:  # only a mask of ones, or types and positions of zeros, may be left out
            value = torch.ones_like(ids) if key == MASK else torch.zeros_like(ids)
        own = value[torch.tensor(rows[name], device=value.device), :tokens]
        parts.append(F.pad(own, (0, tokens - own.shape[1]), value=fill))
    return torch.cat(parts)
