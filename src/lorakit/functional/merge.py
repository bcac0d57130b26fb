"""Merging: W + dW, and its rounding error.

The sum is taken in float32 (or float64, where the weight is that) and rounded once to the weight's
type. In bfloat16, with 8 significant bits, an update far smaller than the weight is partly lost:
with |dW| / |W| at 0.7% about a quarter of it. No order of operations avoids that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def merge(weight: Tensor, dw: Tensor) -> Tensor:
    """round(W + dW) in the type of W; a new tensor, both inputs stay."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight + dw.to(wide)).to(weight.dtype)  # the sum is wide, without a wide copy of W


def rounding_loss(weight: Tensor, dw: Tensor) -> float:
    """||(round(W + dW) - W) - dW|| / ||dW||: the share of the update that merging loses."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    dw = dw.to(wide)
    size = torch.linalg.vector_norm(dw)
    kept = merge(weight, dw).to(wide) - weight.to(wide)
    share = torch.linalg.vector_norm(kept - dw) / size
    return float(torch.where(size == 0, 0.0, share))  # one wait for the device
