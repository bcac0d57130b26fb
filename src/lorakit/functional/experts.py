"""LoRA on a stack of matrices, one for each expert of a mixture.

    W_e' = W_e + s * B_e A_e

Shapes: W (E, O, I), or (E, I, O) where `transposed`; A (E*R, I), whose rows e*R ... belong to
expert e; B (O, R*E), whose columns e, E+e, 2E+e, ... do. That is how PEFT stores them.

Source: PEFT's ParamWrapper, https://github.com/huggingface/peft/blob/v0.21.2/src/peft/tuners/lora/layer.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.functional.precision import without_autocast


def as_stacks(a: Tensor, b: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """A (E, R, I) and B (E, O, R), as views."""
    a_ERI = a.reshape(experts, -1, a.shape[1])
    return a_ERI, b.reshape(b.shape[0], -1, experts).permute(2, 0, 1)


def from_stacks(a_ERI: Tensor, b_EOR: Tensor) -> tuple[Tensor, Tensor]:
    """A and B as they are stored, from those of each expert."""
    return a_ERI.flatten(0, 1), b_EOR.permute(1, 2, 0).flatten(1)


def delta(a: Tensor, b: Tensor, s: float, experts: int) -> Tensor:
    """dW (E, O, I), in at least float32."""
    wide = torch.promote_types(a.dtype, torch.float32)
    a_ERI, b_EOR = as_stacks(a.to(wide), b.to(wide), experts)
    return torch.bmm(b_EOR, a_ERI) * s


def updated(weight: Tensor, a: Tensor, b: Tensor, s: float, transposed: bool) -> Tensor:
    """W' in the type of W, (O, I) as well, computed in it: no second tensor of W's size is formed.

    >>> w, a, b = torch.zeros(2, 1, 1), torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0, 3.0]])
    >>> updated(w, a, b, s=1.0, transposed=False).flatten()
    tensor([1., 6.])
    """
    stack = weight.reshape(-1, *weight.shape[-2:])
    a_ERI, b_EOR = as_stacks(a.to(weight.dtype), b.to(weight.dtype), len(stack))
    left, right = (a_ERI.mT, b_EOR.mT) if transposed else (b_EOR, a_ERI)
    with without_autocast(weight):
        return torch.baddbmm(stack, left, right, alpha=s).view_as(weight)
