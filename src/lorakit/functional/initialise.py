"""Initial values of A and B: one table, one function each.

An initialiser takes the weight as a matrix (O, I) and a rank and returns A (R, I) and B (O, R) on
the weight's device, in its type but never narrower than float32: adapters are master copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Initialiser = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def adapter_dtype(weight_dtype: torch.dtype) -> torch.dtype:
    """The dtype of A and B for a weight of this dtype: master copies of at least float32."""
    return torch.promote_types(weight_dtype, torch.float32)


def kaiming(weight_OI: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """A ~ U(-1/sqrt(I), 1/sqrt(I)), B = 0: the update starts at zero.

    That is torch's `kaiming_uniform_(a=sqrt(5))`, nn.Linear's own default, as loralib uses it.
    """
    a_RI, b_OR = _zeros(weight_OI, r)
    torch.nn.init.kaiming_uniform_(a_RI, a=math.sqrt(5))
    return a_RI, b_OR


def gaussian(weight_OI: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """A ~ N(0, 1/r^2), B = 0, as PEFT's "gaussian"."""
    a_RI, b_OR = _zeros(weight_OI, r)
    return a_RI.normal_(std=1 / r), b_OR


def random(weight_OI: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Both Kaiming-uniform: an update that is not zero, for tests."""
    a_RI, b_OR = kaiming(weight_OI, r)
    torch.nn.init.kaiming_uniform_(b_OR, a=math.sqrt(5))
    return a_RI, b_OR


INITIALISERS: dict[bool | str, Initialiser] = {
    True: kaiming,
    False: random,
    "gaussian": gaussian,
}


def embedding_factors(weight_VO: Tensor, r: int, init: bool | str) -> tuple[Tensor, Tensor]:
    """A (R, V) = 0 and B (O, R) ~ N(0, 1), as in loralib; A is random too where `init` is False.

    Source: microsoft/LoRA pull request 14, on why the roles are reversed.
    """
    a_RV, b_OR = _zeros(weight_VO.t(), r)
    if init is False:
        a_RV.normal_()
    return a_RV, b_OR.normal_()


def _zeros(weight_OI: Tensor, r: int) -> tuple[Tensor, Tensor]:
    out_features, in_features = weight_OI.shape
    zeros = partial(torch.zeros, dtype=adapter_dtype(weight_OI.dtype), device=weight_OI.device)
    return zeros(r, in_features), zeros(out_features, r)
