"""Which examples a step sees, and how they are split into micro-batches.

A step sees exactly `total_batch` examples (the last of an epoch what is left). Which examples form
a step is drawn once from the seed; every epoch shuffles only the order of the steps, so each epoch
has the same number of steps and a resumed run equals an uninterrupted one.

A step is computed in micro-batches of similar length (`lorakit.tasks.batching`). The split changes
the time and not the result: each micro-batch's loss counts by its share of the step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from lorakit.tasks.batching import Features, cut, length

Collate = Callable[[list[Features]], dict[str, torch.Tensor]]


class StepSampler(Sampler[list[int]]):
    """The indices of each step, for a DataLoader's `batch_sampler`.

    Of `size` examples each step sees `total_batch`, over all processes; the last of an epoch what
    is left. `seed` draws which examples form a step, once, and the order of the steps, each epoch.
    With several processes each gets every `world_size`-th example of each step, beginning with
    number `rank`; the last step of an epoch may leave some of them nothing.
    """

    def __init__(
        self, size: int, total_batch: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.seed, self.epoch, self.rank, self.world_size = seed, 0, rank, world_size
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.steps = [part.tolist() for part in order.split(total_batch)]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which seeds the order of the steps."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + 1 + self.epoch)
        for step in torch.randperm(len(self.steps), generator=generator).tolist():
            yield self.steps[step][self.rank :: self.world_size]


class MicroBatches:
    """Collates the examples of a step into `{"micro_batches": [batch, ...]}`.

    A batch holds examples of similar length, at most `token_budget` tokens with their padding, and
    `collate` makes it of them. The split changes the time, not the result, where each batch's loss
    counts by its share of the step.
    """

    def __init__(self, collate: Collate, token_budget: int) -> None:
        self.collate, self.token_budget = collate, token_budget

    def __call__(self, examples: list[Features]) -> dict[str, list[dict[str, torch.Tensor]]]:
        examples = sorted(examples, key=length)
        cuts = cut([length(example) for example in examples], self.token_budget)
        return {"micro_batches": [self.collate(examples[i:j]) for i, j in cuts]}


def largest_batch(lengths: Sequence[int], rows: int, token_budget: int) -> list[int]:
    """The examples of the micro-batch with most tokens that a step of `rows` rows could have.

    >>> largest_batch([10, 900, 500, 450], rows=4, token_budget=1000)
    [2, 3]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    found = [order[:1]]
    for count in range(2, rows + 1):
        first = bisect_left(order, -(token_budget // count), key=lambda i: -lengths[i])
        found.append(order[first : first + count])
    return max(found, key=lambda part: len(part) * lengths[part[0]] if part else 0)


class StepLoader(DataLoader[Any]):
    """A DataLoader that tells its sampler the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Called by transformers' Trainer at the start of every epoch."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)
