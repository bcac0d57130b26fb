"""DoRA on a linear layer: LoRA changes the direction of each row of the weight, m its norm.

    W' = m / n * (W + s B A)            n = ||W + s B A||, of each row, a constant in backward
    y  = x W'^T + b                     without dropout
       = u + d * (u - b)                u = x W^T + b + s drop(x) A^T B^T, LoRA's own; d = m / n - 1

Shapes: W (O, I), or (I, O) where `transposed`; A (R, I), B (O, R); m, n, d, b (O,); y, u (T, O).
The second form is the one computed. At the start m = n, so d = 0 and y = u bit for bit, and in 16
bits a small d keeps its digits, which m / n near 1 would lose.

n needs no B A (and a copy of W for the moment only where W has 16 bits):

    n^2 = ||W||^2 + 2 s <W A^T, B> + s^2 <B (A A^T), B>             each <,> of one row with another

in at least float32, where rounding may leave a little less than 0; that counts as 0. A row of
zeros has no direction: its d is 0, which leaves it to LoRA until B has given it one.

Backward needs one saved activation more than LoRA's: u - b, (T, O), for the gradient of m.
It could be had from y, but a model that changes y in place, as nn.ReLU(inplace=True) does, would
then fail. Dropout is on the low-rank branch alone. PEFT's drops the input of d * x W^T too, so in
training with dropout the two differ.

Source: DoRA, arXiv 2402.09353, equation 5; section 4.3 for the constant n.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.functional import fused, linear
from lorakit.functional.precision import without_autocast


def row_norms(weight: Tensor, a_RI: Tensor, b_OR: Tensor, s: float, transposed: bool) -> Tensor:
    """||W + s B A|| of each row, (O,), in at least float32 and without a gradient.

    >>> row_norms(torch.eye(2), torch.tensor([[0.0, 3.0]]), torch.ones(2, 1), 1.0, False)
    tensor([3.1623, 4.0000])
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    w, a, b = (tensor.detach().to(wide) for tensor in (weight, a_RI, b_OR))
    w_OI = w.t() if transposed else w
    with without_autocast(w):
        cross = (w_OI @ a.t() * b).sum(1)
        update = (b @ (a @ a.t()) * b).sum(1)
    # no power of s: where s is a variable of compiled code, torch 2.13 cannot trace one
    squares: Tensor = torch.linalg.vector_norm(w_OI, dim=1).square() + s * (2 * cross + s * update)
    return squares.clamp(min=0).sqrt()


def magnitude_offset(
    weight: Tensor, a_RI: Tensor, b_OR: Tensor, m_O: Tensor, s: float, transposed: bool
) -> Tensor:
    """d = m / n - 1, differentiable in m; n is rounded to the type of m, which was once an n."""
    n_O = row_norms(weight, a_RI, b_OR, s, transposed).to(m_O.dtype)
    has_direction = n_O > 0
    return torch.where(has_direction, m_O / torch.where(has_direction, n_O, 1.0) - 1, 0.0)


def dora_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    m: Tensor,
    s: float,
    dropout: float = 0.0,
    transposed: bool = False,
) -> Tensor:
    """u + d * (u - b), as the module's docstring has it.

    >>> x, w, zeros = torch.ones(1, 2), torch.eye(2), torch.zeros(2, 1)
    >>> dora_linear(x, w, None, torch.ones(1, 2), zeros, torch.tensor([1.0, 3.0]), s=1.0)
    tensor([[1., 3.]])
    """
    u = fused.lora_linear(x, weight, bias, a, b, s, dropout, transposed)
    return apply_magnitude(u, bias, magnitude_offset(weight, a, b, m, s, transposed))


def apply_magnitude(u: Tensor, bias: Tensor | None, d: Tensor) -> Tensor:
    """u + d * (u - b): LoRA's output u with row o of the weight scaled by 1 + d[o]."""
    return torch.addcmul(u, u if bias is None else u - bias.to(u.dtype), d.to(u.dtype))


def delta(weight: Tensor, a: Tensor, b: Tensor, m: Tensor, s: float, transposed: bool) -> Tensor:
    """W' - W = d * (W + s B A) + s B A, laid out as W is, in at least float32."""
    dw_OI = linear.delta(a, b, s)
    d_O1 = magnitude_offset(weight, a, b, m, s, transposed).to(dw_OI.dtype).unsqueeze(1)
    w_OI = weight.t() if transposed else weight
    change_OI = torch.addcmul(dw_OI, w_OI.to(dw_OI.dtype) + dw_OI, d_O1)
    return change_OI.t() if transposed else change_OI
