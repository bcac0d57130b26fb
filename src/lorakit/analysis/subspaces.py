"""How much of one subspace lies in another, direction by direction.

    phi(i, j) = ||U_i^T V_j||_F^2 / min(i, j)

for the first i and j columns of two orthonormal bases U (D, I) and V (D, J): 0 where the subspaces
are orthogonal, 1 where one contains the other. With p = min(i, j) and the projection metric
d^2 = p - ||U_i^T V_j||_F^2 it is 1 - d^2 / p.

Two random subspaces have max(i, j) / D on average; how far single ones are from it is drawn.

Source: LoRA, arXiv 2106.09685, equation 4; appendix G, where (1 - d^2) / p is a misprint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def similarity(left_DI: Tensor, right_DJ: Tensor) -> Tensor:
    """phi of every i in 1..I and j in 1..J, (I, J).

    >>> axes = torch.eye(3)
    >>> similarity(axes[:, :2], axes[:, 1:])
    tensor([[0.0000, 0.0000],
            [1.0000, 0.5000]])
    """
    overlap_IJ = (left_DI.t() @ right_DJ).square().cumsum(0).cumsum(1)
    i, j = (torch.arange(1, size + 1).unsqueeze(-1) for size in overlap_IJ.shape)
    return overlap_IJ / torch.minimum(i, j.t())


@dataclass(frozen=True)
class Control:
    """phi of random subspaces of a space of `width` dimensions, for every (i, j)."""

    width: int
    draws: int
    """How many pairs of subspaces were drawn."""
    mean: list[list[float]]
    """The mean over the draws."""
    deviation: list[list[float]]
    """Their standard deviation."""


def control(width: int, i: int, j: int, draws: int, seed: int) -> Control:
    """phi of the column spaces of Gaussian matrices (width, i) and (width, j)."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.stack(
        [
            similarity(random_basis(width, i, generator), random_basis(width, j, generator))
            for _ in range(draws)
        ]
    )
    return Control(width, draws, found.mean(0).tolist(), found.std(0).tolist())


def random_basis(width: int, count: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns (width, count) of a random subspace, in float64."""
    drawn = torch.randn(width, count, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(drawn).Q
    return basis
