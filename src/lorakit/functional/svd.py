"""The singular value decomposition of a low-rank product s * B A, from its factors.

    B = Q_b R_b,    A^T = Q_a R_a,    s R_b R_a^T = u diag(sigma) v^T
    s B A = (Q_b u) diag(sigma) (Q_a v)^T

Shapes: A (R, I), B (O, R); sigma (K,), Q_b u (O, K), Q_a v (I, K) with K = min(O, R, I). It costs
about (O + I) R^2 operations, and no matrix of size (O, I) is formed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Svd(NamedTuple):
    """left diag(values) right^T, the largest value first."""

    left_OK: Tensor
    """Orthonormal columns: directions of the output."""
    values_K: Tensor
    right_IK: Tensor
    """Orthonormal columns: directions of the input."""


def decompose(a_RI: Tensor, b_OR: Tensor, s: float) -> Svd:
    """The decomposition of s * B A, in at least float32.

    >>> decompose(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0], [0.0]]), s=0.5).values_K
    tensor([3.])
    """
    left_OR, upper_b = torch.linalg.qr(_wide(b_OR))
    right_IR, upper_a = torch.linalg.qr(_wide(a_RI).t())
    u, values_K, vt = torch.linalg.svd(upper_b @ upper_a.t() * s, full_matrices=False)
    return Svd(left_OR @ u, values_K, right_IR @ vt.t())


def singular_values(a_RI: Tensor, b_OR: Tensor, s: float) -> Tensor:
    """Those of s * B A alone, the largest first, in at least float32."""
    upper_b, upper_a = (torch.linalg.qr(_wide(matrix), mode="r").R for matrix in (b_OR, a_RI.t()))
    values_K: Tensor = torch.linalg.svdvals(upper_b @ upper_a.t() * s)
    return values_K


def _wide(matrix: Tensor) -> Tensor:
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))
