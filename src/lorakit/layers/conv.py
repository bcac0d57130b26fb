"""nn.Conv1d, Conv2d and Conv3d with a low-rank update; loralib's `Conv1d`, `Conv2d`, `Conv3d`.

Where loralib's matrix form exists (square 2-d kernels, kernels of size 1), a layer that is
constructed here has it: A (r*k, in*k), B (out/groups*k, r*k), of rank up to r*k*k. Other kernels,
and every layer that `lorakit.inject` converts, have the kernel form of rank r:
A (r, in/groups, *kernel), B (out, r/groups, 1, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.functional import conv
from lorakit.layers.base import AdapterLayer
from lorakit.private.torch_names import ConvNd, convolve
from lorakit.surgery.composition import composed
from lorakit.variants import AdapterSpec, ConvSite, Site


class ConvLoRA(AdapterLayer, ConvNd):
    """What the three convolutions share; `conv_module` is the torch class that it adapts.

    `ConvLoRA(nn.Conv2d, ...)` is a `Conv2d`. A subclass calls this constructor, as in loralib.

    Shapes for a kernel of k x k: A `(r*k, in*k)`, B `(out/groups*k, r*k)`, of rank up to r*k*k. For
    other kernels, and after `inject`: A `(r, in/groups, *kernel)`, B `(out, r/groups, 1, ...)`, and
    `r` is a multiple of `groups`.

    `in_channels`, `out_channels`, `kernel_size` and `kwargs` (`stride`, `padding`, `groups`, ...)
    are torch's. `scaling` is `lora_alpha / r`, `lora_dropout` the probability of dropping an input
    of A, and `merge_weights` as for `Linear`.

    Raises ConfigError for a negative rank, or one that the groups do not divide, and for a class
    that is no convolution of torch.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.
    """

    def __init__(
        self,
        conv_module: type[nn.Module],
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
        self._become(conv_module)
        self.torch_class.__init__(self, in_channels, out_channels, kernel_size, **kwargs)
        square = conv.fits_square_form(self.kernel_size)
        self.attach(spec, replace(self.site_of(self), square=square))
        if r:
            self.to(self.weight.dtype)

    def _become(self, conv_module: type[nn.Module]) -> None:
        kinds: tuple[type[ConvLoRA], ...] = (Conv1d, Conv2d, Conv3d)
        leaves = {leaf.torch_class: leaf for leaf in kinds}
        leaf = leaves.get(conv_module)
        if leaf is None:
            raise ConfigError(
                f"conv_module is {conv_module!r}; it must be nn.Conv1d, nn.Conv2d or nn.Conv3d."
            )
        if type(self) is ConvLoRA:
            self.__class__ = leaf
        elif not isinstance(self, leaf):
            self.__class__ = composed((type(self), leaf))  # type: ignore[assignment]

    def attach(
        self,
        spec: AdapterSpec,
        site: Site | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> None:
        if site is None and tensors is not None:
            site = replace(self.site_of(self), square=tensors["lora_A"].ndim == 2)
        super().attach(spec, site, tensors)

    @classmethod
    def site_of(cls, module: nn.Module) -> ConvSite:
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return ConvSite(tuple(module.weight.shape), module.groups)

    def reset_parameters(self) -> None:
        """Reinitialise weight, bias, A and B."""
        super().reset_parameters()
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

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        return self._convolve(input, weight, self.bias)

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        if a.ndim > 2:
            return super().adapted(input, a, b, s, dropout)
        x = F.dropout(input, dropout) if dropout else input
        update = self._convolve(x, self.site.product(a, b, s).to(x.dtype), None)
        return self.plain(input, self.base_weight) + update

    def low_rank(self, input: Tensor, a: Tensor, b: Tensor, dropout: float) -> Tensor:
        x = F.dropout(input, dropout) if dropout else input
        h = self._convolve(x, a.to(x.dtype), None)
        pointwise = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel_size) - 1]
        return pointwise(h, b.to(h.dtype), groups=self.groups)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """This layer's convolution (stride, padding, dilation, groups) with another weight."""
        return convolve(self, x, weight, bias)


class _Convolution(ConvLoRA):
    """The constructor of loralib's three classes."""

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
        super().__init__(
            self.torch_class,
            in_channels,
            out_channels,
            kernel_size,
            r,
            lora_alpha,
            lora_dropout,
            merge_weights,
            **kwargs,
        )


class Conv1d(_Convolution, nn.Conv1d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B), with W frozen where r > 0.

    The parameters are those of `ConvLoRA`, where the shapes of A and B are as well.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> import torch
    >>> Conv1d(4, 8, 3, r=2)(torch.randn(2, 4, 9)).shape
    torch.Size([2, 8, 7])
    """

    torch_class = nn.Conv1d


class Conv2d(_Convolution, nn.Conv2d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B), with W frozen where r > 0.

    The parameters are those of `ConvLoRA`, where the shapes of A and B are as well.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> Conv2d(4, 8, 3, r=2).lora_A.shape
    torch.Size([6, 12])
    """

    torch_class = nn.Conv2d


class Conv3d(_Convolution, nn.Conv3d):
    """y = conv(x, W) + b + scaling * conv(drop(x), A, B), with W frozen where r > 0.

    The parameters are those of `ConvLoRA`, where the shapes of A and B are as well.

    Raises ConfigError for a negative rank, or one that the groups do not divide.
    Source: loralib's ConvLoRA, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> Conv3d(4, 8, (1, 3, 3), r=2).lora_A.shape
    torch.Size([2, 4, 1, 3, 3])
    """

    torch_class = nn.Conv3d


def _rename_loralib_keys(state_dict: dict[str, Any], prefix: str) -> list[str]:
    """Rename loralib's keys `conv.weight` and `conv.bias` to this layer's; returns conflicts.

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
            problems.append(
                f"conflicting keys: {prefix}{leaf} and {prefix}conv.{leaf} have different values"
            )
    return problems
