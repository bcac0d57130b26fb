"""How much of a weight W lies in the directions of its update dW.

    ||U^T W V||_F     U (O, k), V (I, k): the first k left and right singular vectors of dW;
                      for comparison those of W itself, and random ones
    amplification     ||dW||_F / ||U^T W V||_F

k is the update's rank. With W's own singular vectors the norm is sqrt(sigma_1^2 + ... + sigma_k^2).

Source: LoRA, arXiv 2106.09685, section 7.3 and table 7.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.analysis.subspaces import random_basis
from lorakit.functional.svd import Svd

_NUMBERS = 2**24
"""How many of a weight's numbers are in float64 at a time."""


@dataclass(frozen=True)
class Projection:
    """Norms of one weight in the directions of its update, of itself, and of chance."""

    rank: int
    """k."""
    weight_norm: float
    """||W||_F."""
    on_update: float
    """||U^T W V||_F with the first k singular vectors U, V of dW."""
    on_weight: float
    """The same with those of W."""
    on_random: float
    """The same with random orthonormal U and V: the mean over `draws`."""
    on_random_deviation: float
    """Their standard deviation."""
    draws: int
    """How many there were."""
    amplification: float | None
    """||dW||_F / `on_update`; None where W has nothing in the update's directions."""


def projection(weight_OI: Tensor, update: Svd, rank: int, draws: int, seed: int) -> Projection:
    """The projections of a weight on the first `rank` directions of its update."""
    left, values, right = update
    on_update = projected_norm(weight_OI, left[:, :rank], right[:, :rank])
    generator = torch.Generator().manual_seed(seed)
    height, width = weight_OI.shape
    by_chance = [
        projected_norm(
            weight_OI,
            random_basis(height, rank, generator),
            random_basis(width, rank, generator),
        )
        for _ in range(draws)
    ]
    squares = squared_singular_values(weight_OI)
    return Projection(
        rank=rank,
        weight_norm=float(squares.sum().sqrt()),
        on_update=on_update,
        on_weight=float(squares[:rank].sum().sqrt()),
        on_random=statistics.mean(by_chance),
        on_random_deviation=statistics.stdev(by_chance),
        draws=draws,
        amplification=float(values.norm()) / on_update if on_update else None,
    )


def projected_norm(weight_OI: Tensor, left_OK: Tensor, right_IK: Tensor) -> float:
    """||left^T W right||_F.

    >>> axes = torch.eye(3).double()
    >>> projected_norm(torch.diag(torch.tensor([3.0, 4.0, 5.0])), axes[:, :2], axes[:, :2])
    5.0
    """
    inner = left_OK.new_zeros(left_OK.shape[1], right_IK.shape[1])
    for rows, block_HI in _blocks(weight_OI):
        inner += left_OK[rows].t() @ (block_HI @ right_IK)
    return float(inner.norm())


def squared_singular_values(weight_OI: Tensor) -> Tensor:
    """Those of W, the largest first: the eigenvalues of W^T W or W W^T, whichever is smaller."""
    tall = weight_OI if weight_OI.shape[0] >= weight_OI.shape[1] else weight_OI.t()
    gram = tall.new_zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for _, block_HI in _blocks(tall):
        gram.addmm_(block_HI.t(), block_HI)
    squares: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)
    return squares


def _blocks(weight_OI: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows at a time in float64: the whole may be gigabytes."""
    height = max(1, _NUMBERS // weight_OI.shape[1])
    for start in range(0, weight_OI.shape[0], height):
        rows = slice(start, start + height)
        yield rows, weight_OI[rows].detach().double()
