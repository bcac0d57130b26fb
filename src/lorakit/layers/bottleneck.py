"""Bottleneck adapters, and the mixins of the modules that they stand behind.

A mixin goes in front of the class of a module of the model (`surgery.additions`), which then owns
the adapter as the child `adapter`, and computes what it did, changed by delta:

- `AdaptedOutput`: y + delta(y), y the hidden states that the module returns, alone or first in a
  tuple. For the output of a sublayer before the residual sum, or of a whole block.
- `AdaptedNorm`: n(s + delta(n(s))), n the norm and s the residual sum that it is given.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from lorakit.functional.bottleneck import ACTIVATIONS, bottleneck
from lorakit.functional.initialise import adapter_dtype
from lorakit.surgery.disabling import Disableable

CHILD = "adapter"
"""The name of the adapter in the module that owns it."""
_STD = 0.02


class Bottleneck(nn.Module):
    """delta(x) = W_up f(W_down n(x) + b_down) + b_up, with n a layer norm or the identity.

    Shapes: x (..., width); `down` (size, width), `up` (width, size). The parameters are on the
    device of the weight `like`, in its dtype but at least float32; it computes in the dtype of x.

    W_down starts as N(0, 0.02^2), as in loralib's repository, W_up and the biases as zero. So delta
    is exactly zero at first, at any width and rank. (The papers draw W_up too; with that, the size
    of delta grows with sqrt(width * size), and is no small change of a large model.)
    """

    def __init__(
        self,
        width: int,
        size: int,
        activation: str,
        norm: bool = False,
        like: Tensor | None = None,
    ) -> None:
        super().__init__()
        beside = torch.empty(0) if like is None else like
        zeros = partial(torch.zeros, device=beside.device, dtype=adapter_dtype(beside.dtype))
        self.activation = activation
        self.norm = nn.Parameter(zeros(width) + 1) if norm else None
        self.norm_bias = nn.Parameter(zeros(width)) if norm else None
        self.down = nn.Parameter(zeros(size, width).normal_(std=_STD))
        self.down_bias = nn.Parameter(zeros(size))
        self.up = nn.Parameter(zeros(width, size))
        self.up_bias = nn.Parameter(zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None and self.norm_bias is not None:
            x = layer_norm(x, self.norm.shape, self.norm.to(x.dtype), self.norm_bias.to(x.dtype))
        function = ACTIVATIONS[self.activation]
        return bottleneck(x, self.down, self.down_bias, self.up, self.up_bias, function)


class AdaptedOutput(Disableable):
    """y + delta(y), with y what the module returns, or the first of several values."""

    adapter: Bottleneck

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if self.is_off():
            return output
        if isinstance(output, Tensor):
            return output + self.adapter(output)
        return type(output)([output[0] + self.adapter(output[0]), *output[1:]])


class AdaptedNorm(Disableable):
    """n(s + delta(n(s))), with n the norm."""

    adapter: Bottleneck

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        if self.is_off():
            return output
        adapted: Tensor = super().forward(input + self.adapter(output))
        return adapted
