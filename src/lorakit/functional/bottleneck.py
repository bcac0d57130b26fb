"""The bottleneck of an adapter: down to a few dimensions, a nonlinearity, and up again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

# B: any number of batch dimensions, D: the width of the hidden states, R: of the bottleneck.

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}
"""By the names of transformers."""


def bottleneck(
    x_BD: Tensor,
    down_RD: Tensor,
    down_bias_R: Tensor,
    up_DR: Tensor,
    up_bias_D: Tensor,
    activation: Activation,
) -> Tensor:
    """delta(x) = W_up f(W_down x + b_down) + b_up, in the dtype of x.

    Source: Houlsby et al., arXiv 1902.00751, section 2.1.
    """
    dtype = x_BD.dtype
    hidden_BR = functional.linear(x_BD, down_RD.to(dtype), down_bias_R.to(dtype))
    return functional.linear(activation(hidden_BR), up_DR.to(dtype), up_bias_D.to(dtype))
