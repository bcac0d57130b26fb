"""The ways to combine updates, as a table.

"linear" is the weighted sum. The others act on each number of the updates dW_i themselves, as their
papers define them on differences of weights; factors A and B have no such numbers, and what is done
to theirs (PEFT's "ties", "dare_linear", "magnitude_prune" without "_svd") is another thing. What
they give is of full rank, so it is cut to a rank, and the error says what that lost.

    trim (TIES, magnitude_prune)  keep the share `density` of dW_i of the largest magnitude
    drop (DARE)                   keep each number with probability `density`, divided by it
    elect (TIES)                  the sign of the sum of w_i dW_i; of those with that sign, the mean

A share is one of each module's update, as in PEFT and mergekit; the TIES paper's is one of all
modules together.

Source: TIES-Merging, arXiv 2306.01708, section 3; DARE, arXiv 2311.03099, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Sparsify = Callable[[Tensor, float, torch.Generator], Tensor]
Merge = Callable[[Sequence[Tensor]], Tensor]

DENSITY = 0.2
"""The share that TIES keeps in its paper's experiments (section 6)."""


@dataclass(frozen=True)
class Elementwise:
    """A method on the numbers of the updates: first each is made sparse, then all are merged."""

    sparsify: Sparsify
    merge: Merge

    def combined(
        self,
        updates: Sequence[Tensor],
        weights: Sequence[float],
        density: float,
        draws: torch.Generator,
    ) -> Tensor:
        """One vector from those of the updates."""
        sparse = (self.sparsify(update, density, draws) for update in updates)
        return self.merge([x * weight for x, weight in zip(sparse, weights, strict=True)])


def trim(update: Tensor, density: float, draws: torch.Generator) -> Tensor:
    """The share `density` of the numbers whose magnitude is largest, the others zero.

    >>> trim(torch.tensor([1.0, -4.0, 2.0, 0.5]), 0.5, torch.Generator())
    tensor([ 0., -4.,  2.,  0.])
    """
    count = max(1, int(density * update.numel()))
    kept = update.abs().topk(count, sorted=False).indices
    return torch.zeros_like(update).scatter_(0, kept, update[kept])


def drop(update: Tensor, density: float, draws: torch.Generator) -> Tensor:
    """Each number with probability `density`, divided by it: the same in expectation."""
    kept = (torch.rand(update.shape, generator=draws) < density).to(update.device)
    return torch.where(kept, update / density, 0)


def total(updates: Sequence[Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(updates)).sum(0)


def elect(updates: Sequence[Tensor]) -> Tensor:
    """The mean of the numbers that have the sign of the sum at their place.

    >>> elect([torch.tensor([1.0, 2.0]), torch.tensor([3.0, -5.0])])
    tensor([ 2., -5.])
    """
    stacked = torch.stack(list(updates))
    agree = stacked.sign() == stacked.sum(0).sign()
    agree &= stacked != 0
    return (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)


LINEAR = "linear"
METHODS: dict[str, Elementwise] = {
    "ties": Elementwise(trim, elect),
    "dare_linear": Elementwise(drop, total),
    "dare_ties": Elementwise(drop, elect),
    "magnitude_prune": Elementwise(trim, total),
}
"""Those beside `LINEAR`, by PEFT's names."""
