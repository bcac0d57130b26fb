"""Rows in batches of similar length, so that little is computed for padding.

In training a step's examples are cut into micro-batches: a micro-batch of n examples costs n times
its longest one, so the examples are sorted by length and cut where

    sum over micro-batches of (examples * longest + OVERHEAD)

is least, with no micro-batch above the token budget. In inference any rows may stand together, so
the batches are simply filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OVERHEAD = 96
"""The cost of one more forward and backward, in tokens: on two CPU cores about 50 in float32 and
130 in bfloat16."""
TOKENS, ROWS = 4096, 128
"""Of one batch in inference at most; a batch has at least one row."""

Features = Mapping[str, Any]


LENGTH_COLUMNS = ("input_ids", "decoder_attention_mask")
"""What `length` reads of an example, as far as it is there."""


def length(example: Features) -> int:
    """Tokens of one example; of multiple choice: of all choices, padded to the longest.

    Of an encoder-decoder: of prompt and completion.
    """
    ids = example["input_ids"]
    if ids and isinstance(ids[0], list):
        return max(map(len, ids)) * len(ids)
    return len(ids) + len(example.get("decoder_attention_mask", ()))


def cut(
    lengths: Sequence[int], token_budget: int, overhead: int = OVERHEAD
) -> list[tuple[int, int]]:
    """(start, stop) of the micro-batches of least cost, for examples sorted by length.

    One example longer than the budget gets a micro-batch of its own. Dynamic programming:
    `best[j]` is the least cost of the first j examples.

    >>> cut([5, 5, 6, 40, 41], token_budget=1000, overhead=10)
    [(0, 3), (3, 5)]
    """
    best, origin = [0.0], [0]
    for stop in range(1, len(lengths) + 1):
        longest = lengths[stop - 1]
        most = max(1, token_budget // longest) if longest else stop
        costs = {
            start: best[start] + (stop - start) * longest + overhead
            for start in range(max(0, stop - most), stop)
        }
        start = min(costs, key=costs.__getitem__)
        best.append(costs[start])
        origin.append(start)
    cuts = []
    stop = len(lengths)
    while stop:
        cuts.append((origin[stop], stop))
        stop = origin[stop]
    return cuts[::-1]


def batches(lengths: Sequence[int], tokens: int = TOKENS, rows: int = ROWS) -> list[list[int]]:
    """The indices of the rows, sorted by length and split into batches, the longest first.

    >>> batches([3, 9, 3, 4], tokens=10)
    [[1], [3, 0], [2]]
    """
    result: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        room = result and len(result[-1]) < rows
        if room and (len(result[-1]) + 1) * lengths[result[-1][0]] <= tokens:
            result[-1].append(i)
        else:
            result.append([i])
    return result
