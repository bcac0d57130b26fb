"""nn.Conv1d, Conv2d and Conv3d with a low-rank update; loralib's `Conv1d`, `Conv2d`, `Conv3d`.

Where loralib's matrix form exists (square 2-d kernels, kernels of size 1), a layer that is
constructed here has it, shapes included: A (r*k, in*k), B (out/groups*k, r*k), of rank up to
r*k*k. Other kernels, and every layer that `lorakit.inject` converts, have the kernel form with the
rank they say: A (r, in/groups, *kernel), B (out, r/groups, 1, ...).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.functional import conv
from lorakit.functional.initialise import INITIALISERS
from lorakit.functional.linear import add_scaled
from lorakit.layers.base import LoraLayer
from lorakit.layers.spec import AdapterSpec
from lorakit.private.torch_names import ConvNd, convolve


class LoraConv(LoraLayer, ConvNd):
    """What the three convolutions share."""

    _square_form: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        r: int = 0,
        lora_alpha: float = 1,
        lora_dropout: float = 0.0,
        merge_weights: bool = True,
        **kwargs: Any,
    ) -> None:
        spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights)
        self.torch_class.__init__(self, in_channels, out_channels, kernel_size, **kwargs)
        self._square_form = conv.fits_square_form(self.kernel_size)
        self.attach(spec)
        if r:
            self.to(self.weight.dtype)

    def attach(self, spec: AdapterSpec, factors: tuple[Tensor, ...] | None = None) -> None:
        if factors is not None:
            self._square_form = factors[0].ndim == 2
        if not self._square_form and spec.r % self.groups:
            raise ConfigError(
                "This convolution cannot be adapted:",
                [f"r is {spec.r}; with groups={self.groups} it must be a multiple of that"],
            )
        super().attach(spec, factors)

    def reset_parameters(self) -> None:
        """Draw weight, bias, A and B anew."""
        super().reset_parameters()
        if "lora_A" in self._parameters:
            self.reset_lora_parameters()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        error_msgs += _rename_loralib_keys(state_dict, prefix)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    @property
    def base_weight(self) -> Tensor:
        return self.weight

    @property
    def max_rank(self) -> int:
        return min(self.out_channels, self.weight[0].numel() * self.groups)

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        weight, k = self.weight.detach(), self.kernel_size[0]
        initialise = INITIALISERS[self.spec.init_lora_weights]
        if self._square_form:
            return initialise(weight.reshape(-1, self.in_channels * k), self.r * k)
        a, b = initialise(weight.flatten(1), self.r)
        ones = [1] * len(self.kernel_size)
        b = b[:, : self.r // self.groups].reshape(self.out_channels, -1, *ones)
        return a.reshape(self.r, *weight.shape[1:]), b

    def delta_weight(self) -> Tensor:
        return conv.delta(self.lora_A, self.lora_B, self.scaling, self.weight.shape, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.base_or_merged_weight()
        if weight is not None:
            return self._convolve(input, weight, self.bias)
        y = self._convolve(input, self.weight, self.bias)
        x = F.dropout(input, self.dropout_now) if self.dropout_now else input
        if self.lora_A.ndim == 2:
            return y + self._convolve(x, self.delta_weight().to(x.dtype), None)
        h = self._convolve(x, self.lora_A.to(x.dtype), None)
        return add_scaled(y, self._pointwise(h), self.scaling)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """This layer's convolution (stride, padding, dilation, groups) with another weight."""
        return convolve(self, x, weight, bias)

    def _pointwise(self, h: Tensor) -> Tensor:
        """The 1x1 convolution with B."""
        function = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel_size) - 1]
        return function(h, self.lora_B.to(h.dtype), groups=self.groups)


class Conv1d(LoraConv, nn.Conv1d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B); see the module for the shapes.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> import torch
    >>> Conv1d(4, 8, 3, r=2)(torch.randn(2, 4, 9)).shape
    torch.Size([2, 8, 7])
    """

    torch_class = nn.Conv1d


class Conv2d(LoraConv, nn.Conv2d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B); see the module for the shapes.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> Conv2d(4, 8, 3, r=2).lora_A.shape
    torch.Size([6, 12])
    """

    torch_class = nn.Conv2d


class Conv3d(LoraConv, nn.Conv3d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B); see the module for the shapes.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> Conv3d(4, 8, (1, 3, 3), r=2).lora_A.shape
    torch.Size([2, 4, 1, 3, 3])
    """

    torch_class = nn.Conv3d


def _rename_loralib_keys(state_dict: dict[str, Any], prefix: str) -> list[str]:
    """Give loralib's `conv.weight` and `conv.bias` this layer's names; what is contradictory.

    loralib 0.1.2 keeps the convolution in a child called conv. Later versions save it under both
    names, one tensor twice unless something has split them.
    """
    problems = []
    for leaf in ("weight", "bias"):
        inner = state_dict.pop(f"{prefix}conv.{leaf}", None)
        outer = state_dict.get(f"{prefix}{leaf}")
        if inner is None:
            continue
        state_dict[f"{prefix}{leaf}"] = inner
        if outer is not None and not (outer.shape == inner.shape and bool((outer == inner).all())):
            problems.append(f"{prefix}{leaf} and {prefix}conv.{leaf} have different values")
    return problems
