"""LoRA on a linear layer.

    y = x W^T + b + s * drop(x) A^T B^T        dW = s * B A

Shapes: x (T, I), W (O, I), A (R, I), B (O, R), y (T, O); T stands for any leading dimensions.
The low-rank path costs 2TR(I + O) operations beside the 2TIO of the layer itself and never forms
dW. A and B are cast to the type of x: master copies may be wider than the computation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def project(x_TI: Tensor, weight: Tensor, bias_O: Tensor | None, transposed: bool) -> Tensor:
    """The frozen layer: x W^T + b, with the weight stored (O, I), or (I, O) where `transposed`.

    The transposed form is GPT-2's Conv1D; it is computed as that layer computes it, so the
    output is equal bit for bit.
    """
    if not transposed:
        return F.linear(x_TI, weight, bias_O)
    if bias_O is None:
        return x_TI @ weight
    y = torch.addmm(bias_O, x_TI.reshape(-1, x_TI.shape[-1]), weight)
    return y.view(*x_TI.shape[:-1], weight.shape[1])


def low_rank(x_TI: Tensor, a_RI: Tensor, b_OR: Tensor, dropout: float = 0.0) -> Tensor:
    """drop(x) A^T B^T, without the scale; `dropout` is the probability in force."""
    x = F.dropout(x_TI, dropout) if dropout else x_TI
    return F.linear(F.linear(x, a_RI.to(x.dtype)), b_OR.to(x.dtype))


def lora_linear(
    x_TI: Tensor,
    weight: Tensor,
    bias_O: Tensor | None,
    a_RI: Tensor,
    b_OR: Tensor,
    s: float,
    dropout: float = 0.0,
    transposed: bool = False,
) -> Tensor:
    """The adapted layer: x W^T + b + s * drop(x) A^T B^T.

    Source: LoRA, arXiv 2106.09685, equation 3.

    >>> x, w = torch.ones(1, 2), torch.eye(2)
    >>> lora_linear(x, w, None, torch.ones(1, 2), torch.tensor([[1.0], [0.0]]), s=0.5)
    tensor([[2., 1.]])
    """
    y = project(x_TI, weight, bias_O, transposed)
    return add_scaled(y, low_rank(x_TI, a_RI, b_OR, dropout), s)


def add_scaled(y: Tensor, update: Tensor, s: float) -> Tensor:
    """y + s * update, in one pass.

    Inductor of torch 2.13 fuses `add(y, mm(a, b), alpha=s)` to an addmm that forgets s, so compiled
    code multiplies; it fuses that too.
    """
    if torch.compiler.is_compiling():
        return y + update * s
    return torch.add(y, update, alpha=s)


def delta(a_RI: Tensor, b_OR: Tensor, s: float) -> Tensor:
    """dW = s * B A, of shape (O, I), in at least float32: rounding is left to `merge`."""
    wide = torch.promote_types(a_RI.dtype, torch.float32)
    return (b_OR.to(wide) @ a_RI.to(wide)) * s
