"""LoRA on an embedding table.

The input is a row number, that is a one-hot vector of width V, so the linear formula becomes

    y = W[id] + s * m * A[:, id]^T B^T        dW = s * (B A)^T

Shapes: W (V, O), A (R, V), B (O, R), id any shape. Dropout of a one-hot input drops the token's
whole update: m is 0 with probability p and 1 / (1 - p) otherwise, one draw a position.
A starts at zero and B at N(0, 1), the reverse of a linear layer, so the rows of tokens that never
occur stay at zero in A.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.functional import linear


def renorm(rows: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Each row times min(1, max_norm / its norm), as `torch.embedding_renorm_` computes it.

    nn.Embedding writes the rescaled rows back into the weight; here a frozen weight is not changed.
    """
    norm = torch.linalg.vector_norm(rows, norm_type, dim=-1, keepdim=True).double()
    quotient = torch.full_like(norm, max_norm) / (
        norm + 1e-7
    )  # 2.0 / norm would multiply a reciprocal
    scale = torch.where(norm > max_norm, quotient, 1.0)
    return rows * scale.to(rows.dtype)


def low_rank(
    ids: Tensor,
    a_RV: Tensor,
    b_OR: Tensor,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """m * A[:, id]^T B^T, without the scale; the padding row of A gets no gradient."""
    h = F.embedding(ids, a_RV.t(), padding_idx, scale_grad_by_freq=scale_grad_by_freq)
    if dropout:
        h = h * F.dropout(h.new_ones(*ids.shape, 1), dropout)
    return F.linear(h, b_OR)


def delta(a_RV: Tensor, b_OR: Tensor, s: float) -> Tensor:
    """dW = s * (B A)^T, of shape (V, O)."""
    return linear.delta(a_RV, b_OR, s).t()
