"""nn.Linear and GPT-2's Conv1D with an adapter, whole or in slices.

`Linear` and `MergedLinear` are loralib's: same constructors, parameter names, shapes and maths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.functional import linear, slices, token_rows
from lorakit.functional.fused import lora_linear
from lorakit.functional.slices import Slices
from lorakit.functional.token_rows import Rows
from lorakit.layers.base import AdapterLayer
from lorakit.layers.readers import watch_parents
from lorakit.surgery.split import is_conv1d
from lorakit.variants import AdapterSpec, LinearSite, SlicedSite


class Linear(AdapterLayer, nn.Linear):
    """y = x W^T + b + scaling * drop(x) A^T B^T, with W frozen where r > 0.

    Shapes: W (out, in), or (in, out) with `fan_in_fan_out`; A (r, in), B (out, r).
    `scaling` is `lora_alpha / r`. `r=0` is a plain, trainable nn.Linear. `variant="dora"` adds a
    `lora_magnitude_vector` (out,).

    `in_features`, `out_features` and `kwargs` (`bias`, `device`, `dtype`) are nn.Linear's.
    `lora_dropout` is the probability of dropping an input of A. With `merge_weights`, evaluation
    computes with W + scaling * B A, which is kept until A, B or W change.

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
        *,
        variant: str = "lora",
        **kwargs: Any,
    ) -> None:
        spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights, variant=variant)
        site = LinearSite(in_features, out_features, fan_in_fan_out)
        self._construct(spec, site, **kwargs)

    def _construct(self, spec: AdapterSpec, site: LinearSite, **kwargs: Any) -> None:
        nn.Linear.__init__(self, site.in_features, site.out_features, **kwargs)
        if site.transposed:
            self.fan_in_fan_out = True
            self.weight = nn.Parameter(self.weight.detach().t().contiguous())
        self.attach(spec, site)
        if spec.r:
            self.to(self.weight.dtype)
        watch_parents(self)

    @classmethod
    def site_of(cls, module: nn.Module) -> LinearSite:
        weight = module._parameters["weight"]
        assert weight is not None
        transposed = is_conv1d(module) or bool(getattr(module, "fan_in_fan_out", False))
        out_features, in_features = weight.shape[::-1] if transposed else weight.shape
        return LinearSite(in_features, out_features, transposed)

    def reset_parameters(self) -> None:
        """Reinitialise weight, bias, A and B, as the constructor does."""
        weight_OI = self.base_weight.t() if self.fan_in_fan_out else self.base_weight
        nn.init.kaiming_uniform_(weight_OI, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            nn.init.uniform_(self.bias, -bound, bound)
        self.reset_lora_parameters()

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        return linear.project(input, weight, self.bias, self.fan_in_fan_out)

    def low_rank(self, input: Tensor, a: Tensor, b: Tensor, dropout: float) -> Tensor:
        if self.site.slices is not None:
            a, b = slices.as_block(a, b, self.site.slices)
        return linear.low_rank(input, a, b, dropout)

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        parts = self.site.slices
        return lora_linear(
            input, self.base_weight, self.bias, a, b, s, dropout, self.fan_in_fan_out, parts
        )

    def with_rows(self, input: Tensor, rows: Rows, values: Tensor) -> Tensor:
        y = self.plain(input, self.base_weight)
        return token_rows.project(input, y, self.base_weight, rows, values)


class MergedLinear(Linear):
    """Several projections in one weight, some of them adapted, each by a pair of its own.

    The output is cut into len(enable_lora) equal slices; slice i gets B_i A_i where
    `enable_lora[i]` is true. A is (r * n, in) and B is (out / len * n, r) for n adapted slices.
    Slices of unequal height come from `lorakit.inject` with `LoraConfig.slices`. `in_features`,
    `out_features`, `r`, `lora_alpha`, `lora_dropout`, `fan_in_fan_out`, `merge_weights` and
    `kwargs` are those of `Linear`.

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
            spec = AdapterSpec(r, lora_alpha, lora_dropout, merge_weights)
            if r and parts and not any(adapted for _, adapted in parts):
                problems.append(f"r is {r!r}, but enable_lora enables none of {len(parts)} slices")
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError("Invalid settings for MergedLinear:", problems)
        self._construct(
            spec, SlicedSite(in_features, out_features, fan_in_fan_out, parts), **kwargs
        )

    @property
    def slices(self) -> Slices:
        """Height of each slice, and whether it is adapted."""
        assert self.site.slices is not None
        return self.site.slices

    @property
    def enable_lora(self) -> list[bool]:
        """Which slices are adapted."""
        return [adapted for _, adapted in self.slices]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, enable_lora={self.enable_lora}"


def _equal_slices(out_features: int, enable_lora: Sequence[bool]) -> tuple[Slices, list[str]]:
    """The slices, and what is wrong with them."""
    listed = isinstance(enable_lora, list | tuple) and len(enable_lora) > 0
    if not listed or not all(isinstance(flag, bool) for flag in enable_lora):
        return (), [f"enable_lora is {enable_lora!r}; it must list one boolean per slice"]
    height, rest = divmod(out_features, len(enable_lora))
    if rest:
        problem = f"out_features={out_features} is not divisible by the {len(enable_lora)} slices"
        return (), [problem]
    return tuple((height, flag) for flag in enable_lora), []
