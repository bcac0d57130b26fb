"""nn.Linear and GPT-2's Conv1D with a low-rank update, whole or in slices.

`Linear` and `MergedLinear` are loralib's: same constructors, parameter names, shapes and maths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.functional import linear, slices
from lorakit.functional.fused import lora_linear
from lorakit.functional.initialise import INITIALISERS
from lorakit.functional.slices import Slices
from lorakit.layers.base import LoraLayer
from lorakit.layers.readers import watch_parents
from lorakit.layers.spec import AdapterSpec


class Linear(LoraLayer, nn.Linear):
    """y = x W^T + b + scaling * drop(x) A^T B^T, with W frozen where r > 0.

    Shapes: W (out, in), or (in, out) with `fan_in_fan_out`; A (r, in), B (out, r).
    `scaling` is `lora_alpha / r`. `r=0` is a plain, trainable nn.Linear.

    Raises ConfigError for a negative rank or a dropout outside [0, 1).
    Source: loralib's Linear, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> layer = Linear(768, 768, r=8, lora_alpha=16)
    >>> layer.lora_A.shape, layer.lora_B.shape, layer.scaling
    (torch.Size([8, 768]), torch.Size([768, 8]), 2.0)
    """

    torch_class = nn.Linear
    fan_in_fan_out: bool = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        r: int = 0,
        lora_alpha: float = 1,
        lora_dropout: float = 0.0,
        fan_in_fan_out: bool = False,
        merge_weights: bool = True,
        **kwargs: Any,
    ) -> None:
        spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights)
        self._construct(in_features, out_features, spec, fan_in_fan_out, **kwargs)

    def _construct(
        self,
        in_features: int,
        out_features: int,
        spec: AdapterSpec,
        transposed: bool,
        **kwargs: Any,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, **kwargs)
        if transposed:
            self.fan_in_fan_out = True
            self.weight = nn.Parameter(self.weight.detach().t().contiguous())
        self.attach(spec)
        if spec.r:
            self.to(self.weight.dtype)
        watch_parents(self)

    def reset_parameters(self) -> None:
        """Draw weight, bias, A and B anew, as the constructor does."""
        weight_OI = self.base_weight.t() if self.fan_in_fan_out else self.base_weight
        nn.init.kaiming_uniform_(weight_OI, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            nn.init.uniform_(self.bias, -bound, bound)
        if "lora_A" in self._parameters:
            self.reset_lora_parameters()

    @property
    def base_weight(self) -> Tensor:
        return self.weight

    @property
    def max_rank(self) -> int:
        return min(self.in_features, self.out_features)

    def expose(self) -> None:
        self.__class__ = MergedOnReadLinear

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        weight = self.base_weight.detach()
        weight_OI = weight.t() if self.fan_in_fan_out else weight
        return INITIALISERS[self.spec.init_lora_weights](weight_OI, self.r)

    def delta_weight(self) -> Tensor:
        dw_OI = linear.delta(self.lora_A, self.lora_B, self.scaling)
        return dw_OI.t() if self.fan_in_fan_out else dw_OI

    def forward(self, input: Tensor) -> Tensor:
        spec = self.spec  # plain attributes only: this line runs in every forward
        if spec.merge_weights or self._merging or not (self._active and spec.r):
            weight = self.base_or_merged_weight()
            if weight is not None:
                return linear.project(input, weight, self.bias, self.fan_in_fan_out)
        return lora_linear(
            input,
            self.weight,
            self.bias,
            self.lora_A,
            self.lora_B,
            self.scaling,
            spec.lora_dropout if self.training else 0.0,
            self.fan_in_fan_out,
            spec.slices,
        )


class MergedLinear(Linear):
    """Several projections in one weight, some of them adapted, each by a pair of its own.

    The output is cut into len(enable_lora) equal slices; slice i gets B_i A_i where
    `enable_lora[i]` is true. A is (r * n, in) and B is (out / len * n, r) for n adapted slices.
    Slices of unequal height come from `lorakit.inject` with `LoraConfig.slices`.

    Raises ConfigError if r > 0 and no slice is enabled, if `enable_lora` holds anything but
    booleans, or if the slices do not divide the output.
    Source: loralib's MergedLinear, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> qkv = MergedLinear(768, 3 * 768, r=8, enable_lora=[True, False, True])
    >>> qkv.lora_A.shape, qkv.lora_B.shape
    (torch.Size([16, 768]), torch.Size([1536, 8]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        r: int = 0,
        lora_alpha: float = 1,
        lora_dropout: float = 0.0,
        enable_lora: Sequence[bool] = (False,),
        fan_in_fan_out: bool = False,
        merge_weights: bool = True,
        **kwargs: Any,
    ) -> None:
        parts, problems = _equal_slices(out_features, enable_lora)
        try:
            spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights, slices=parts)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError("This MergedLinear cannot be made:", problems)
        self._construct(in_features, out_features, spec, fan_in_fan_out, **kwargs)

    @property
    def slices(self) -> Slices:
        """Height of each slice, and whether it is adapted."""
        assert self.spec.slices is not None
        return self.spec.slices

    @property
    def enable_lora(self) -> list[bool]:
        """Which slices are adapted."""
        return [adapted for _, adapted in self.slices]

    def expose(self) -> None:
        self.__class__ = MergedOnReadMergedLinear

    @property
    def max_rank(self) -> int:
        return min(self.in_features, *slices.adapted_heights(self.slices))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, enable_lora={self.enable_lora}"

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        weight = self.base_weight.detach()
        weight_OI = weight.t() if self.fan_in_fan_out else weight
        initialise = INITIALISERS[self.spec.init_lora_weights]
        spans = slices.adapted_spans(self.slices)
        factors = [initialise(weight_OI[start:stop], self.r) for start, stop in spans]
        return torch.cat([a for a, _ in factors]), torch.cat([b for _, b in factors])

    def delta_weight(self) -> Tensor:
        dw_OI = slices.delta(self.lora_A, self.lora_B, self.scaling, self.slices)
        return dw_OI.t() if self.fan_in_fan_out else dw_OI


class MergedOnReadLinear(Linear):
    """A Linear whose `weight` reads as W + scaling * B A; the parameter of that name stays W."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.effective_weight()

    @property
    def base_weight(self) -> Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return weight

    def forward(self, input: Tensor) -> Tensor:
        weight = self.base_or_merged_weight()
        if weight is not None:
            return linear.project(input, weight, self.bias, self.fan_in_fan_out)
        return lora_linear(
            input,
            self.base_weight,
            self.bias,
            self.lora_A,
            self.lora_B,
            self.scaling,
            self.dropout_now,
            self.fan_in_fan_out,
            self.spec.slices,
        )


class MergedOnReadMergedLinear(MergedOnReadLinear, MergedLinear):
    """The same for a MergedLinear."""


def _equal_slices(out_features: int, enable_lora: Sequence[bool]) -> tuple[Slices, list[str]]:
    """The slices, and why there can be none of that kind."""
    listed = isinstance(enable_lora, list | tuple) and len(enable_lora) > 0
    if not listed or not all(isinstance(flag, bool) for flag in enable_lora):
        return (), [f"enable_lora is {enable_lora!r}; write one boolean for each slice"]
    height, rest = divmod(out_features, len(enable_lora))
    if rest:
        problem = f"{len(enable_lora)} equal slices do not divide out_features={out_features}"
        return (), [problem]
    return tuple((height, flag) for flag in enable_lora), []
