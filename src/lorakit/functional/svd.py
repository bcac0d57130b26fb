"""The singular value decomposition of a low-rank product s * B A, from its factors.

    B = Q_b R_b,    A^T = Q_a R_a,    s R_b R_a^T = u diag(sigma) v^T
    s B A = (Q_b u) diag(sigma) (Q_a v)^T

Shapes: A (R, I), B (O, R); sigma (K,), Q_b u (O, K), Q_a v (I, K) with K = min(O, R, I). It costs
about (O + I) R^2 operations, and no matrix of size (O, I) is formed. Nor is Q: its Householder
reflections are applied to the columns of u and v that are wanted.

The first R singular values and vectors are the best approximation of rank R in the Frobenius norm,
and what it misses is the root of the sum of squares of the other values (Eckart and Young, 1936).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALL = 256
"""Below this many rows or columns all singular values are found as quickly as some."""
_OVERSAMPLING, _POWER_ITERATIONS = 10, 3


class Svd(NamedTuple):
    """left diag(values) right^T, the largest value first."""

    left_OK: Tensor
    """Orthonormal columns: directions of the output."""
    values_K: Tensor
    right_IK: Tensor
    """Orthonormal columns: directions of the input."""


def decompose(a_RI: Tensor, b_OR: Tensor, s: float, vectors: int | None = None) -> Svd:
    """The decomposition of s * B A, in at least float32; of the vectors only so many, if stated.

    >>> decompose(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0], [0.0]]), s=0.5).values_K
    tensor([3.])
    """
    left, right = _qr(_wide(b_OR)), _qr(_wide(a_RI).t())
    u, values_K, vt = torch.linalg.svd(left.upper @ right.upper.t() * s, full_matrices=False)
    return Svd(left.times(u[:, :vectors]), values_K, right.times(vt[:vectors].t()))


class _Qr(NamedTuple):
    """Q R: R, and Q (M, K) as the reflections that it is made of."""

    reflections_MK: Tensor
    tau_K: Tensor
    upper: Tensor

    def times(self, x_KN: Tensor) -> Tensor:
        """Q x."""
        padded_MN = F.pad(x_KN, (0, 0, 0, len(self.reflections_MK) - len(x_KN)))
        return torch.ormqr(self.reflections_MK, self.tau_K, padded_MN)


def _qr(matrix: Tensor) -> _Qr:
    packed, tau_K = torch.geqrf(matrix)
    k = len(tau_K)
    return _Qr(packed[:, :k], tau_K, packed[:k].triu())


def singular_values(a_RI: Tensor, b_OR: Tensor, s: float) -> Tensor:
    """Those of s * B A alone, the largest first, in at least float32."""
    upper_b, upper_a = (torch.linalg.qr(_wide(matrix), mode="r").R for matrix in (b_OR, a_RI.t()))
    values_K: Tensor = torch.linalg.svdvals(upper_b @ upper_a.t() * s)
    return values_K


def leading(matrix_OI: Tensor, count: int | None = None) -> Svd:
    """The first `count` singular values and vectors of a dense matrix; by default all of them.

    Of many by few they are found in a random subspace (Halko, Martinsson and Tropp 2011, algorithm
    4.4), drawn from a seed of its own: close to the best, with an error to be measured.
    """
    small = min(matrix_OI.shape)
    width = (small if count is None else count) + _OVERSAMPLING
    if small <= _SMALL or 4 * width > small:
        left_OK, values_K, vt = torch.linalg.svd(_wide(matrix_OI), full_matrices=False)
        return Svd(left_OK[:, :count], values_K[:count], vt[:count].t())
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(matrix_OI.shape[1], width, generator=draws)
    space = torch.linalg.qr(matrix_OI @ start.to(matrix_OI)).Q
    for _ in range(_POWER_ITERATIONS):
        space = torch.linalg.qr(matrix_OI @ torch.linalg.qr(matrix_OI.t() @ space).Q).Q
    part = decompose(space.t() @ matrix_OI, space, 1.0)
    return Svd(part.left_OK[:, :count], part.values_K[:count], part.right_IK[:, :count])


def balanced(svd: Svd, rank: int, s: float = 1.0) -> tuple[Tensor, Tensor]:
    """A (R, I) and B (O, R) whose product s * B A is the best approximation of rank R.

    Both have the root of the singular values. Where there are fewer than R, the rest is zero.
    """
    roots_R = svd.values_K[:rank].sqrt()
    missing = max(0, rank - len(svd.values_K))
    b_OR = F.pad(svd.left_OK[:, :rank] * roots_R / s, (0, missing))
    return F.pad(svd.right_IK[:, :rank] * roots_R, (0, missing)).t(), b_OR


def product_norm(a_RI: Tensor, b_OR: Tensor) -> Tensor:
    """||B A||, Frobenius, from two (R, R) matrices: the root of trace((B^T B)(A A^T))."""
    a_RI, b_OR = _wide(a_RI), _wide(b_OR)
    return ((b_OR.t() @ b_OR) * (a_RI @ a_RI.t())).sum().clamp(min=0).sqrt()


def _wide(matrix: Tensor) -> Tensor:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))
