"""Which examples a step sees, and how they are cut into micro-batches.

A step sees exactly `total_batch` examples (the last of an epoch what is left). Which examples form
a step is drawn once from the seed; every epoch shuffles only the order of the steps, so each epoch
has the same number of steps and a resumed run equals an uninterrupted one.

A step is computed in micro-batches of like length. Padding is work for nothing: a micro-batch of n
examples costs n times its longest one. A step's examples are sorted by length and cut where

    sum over micro-batches of (examples * longest + OVERHEAD)

is least, with no micro-batch above the token budget. The cut changes the time and not the result:
each micro-batch's loss counts by its share of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

OVERHEAD = 96
"""What one more forward and backward costs, in tokens: on two CPU cores about 50 in float32 and 130
in bfloat16."""

Features = Mapping[str, Any]
Collate = Callable[[list[Features]], dict[str, torch.Tensor]]


class StepSampler(Sampler[list[int]]):
    """The indices of each step, for a DataLoader's `batch_sampler`.

    With several processes each gets every `world_size`-th example of each step; the last step of
    an epoch may leave some of them nothing.
    """

    def __init__(
        self, size: int, total_batch: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.seed, self.epoch, self.rank, self.world_size = seed, 0, rank, world_size
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.steps = [part.tolist() for part in order.split(total_batch)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the steps."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + 1 + self.epoch)
        for step in torch.randperm(len(self.steps), generator=generator).tolist():
            yield self.steps[step][self.rank :: self.world_size]


class MicroBatches:
    """Collates the examples of a step into `{"micro_batches": [batch, ...]}`."""

    def __init__(self, collate: Collate, token_budget: int) -> None:
        self.collate, self.token_budget = collate, token_budget

    def __call__(self, examples: list[Features]) -> dict[str, list[dict[str, torch.Tensor]]]:
        examples = sorted(examples, key=length)
        cuts = cut([length(example) for example in examples], self.token_budget)
        return {"micro_batches": [self.collate(examples[i:j]) for i, j in cuts]}


class StepLoader(DataLoader[Any]):
    """A DataLoader that tells its sampler the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called by transformers' Trainer at the start of every epoch."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


def length(example: Features) -> int:
    """Tokens of one example; with several choices, of all of them, padded to the longest."""
    ids = example["input_ids"]
    return max(map(len, ids)) * len(ids) if ids and isinstance(ids[0], list) else len(ids)


def cut(
    lengths: Sequence[int], token_budget: int, overhead: int = OVERHEAD
) -> list[tuple[int, int]]:
    """(start, stop) of the micro-batches of least cost for examples sorted by length.

    One example longer than the budget gets a micro-batch of its own. Dynamic programming:
    `best[j]` is the least cost of the first j examples.

    >>> cut([5, 5, 6, 40, 41], token_budget=1000, overhead=10)
    [(0, 3), (3, 5)]
    """
    best, origin = [0.0], [0]
    for stop in range(1, len(lengths) + 1):
        longest = lengths[stop - 1]
        most = max(1, token_budget // max(1, longest))
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
