"""The product of two matrices, by the faster one of the libraries that torch has on CPUs.

torch gives float32 products to MKL. Its wheels also have oneDNN, behind the operator that compiled
models call for linear layers. On the processor that was measured, which MKL is not made for, oneDNN
took 0.43 to 0.64 of MKL's time (`benchmarks/LOG.md`). Its operator costs 12 microseconds a call and
has no gradient, so small products, and those that autograd must see, stay with torch. So does a
second factor with gaps between its rows: oneDNN has only slow code for that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.private.torch_names import onednn_linear

LEAST = 2**20
"""Multiplications of numbers in a product from which on oneDNN computes it."""


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """A B, for A of (M, K) and B of (K, N)."""
    if onednn_linear is not None and _is_for_onednn(a, b):
        return onednn_linear(a, b.t(), None, "none", [], "")
    return a @ b


def _is_for_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        len(a) * b.numel() >= LEAST
        and a.dtype is b.dtype is torch.float32
        and a.device.type == "cpu"
        and not torch.is_grad_enabled()
        and (b.is_contiguous() or b.t().is_contiguous())
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )
