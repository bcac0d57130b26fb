"""The site of a convolution, in the form of kernels or of loralib's matrices; see `site`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lorakit.functional import conv
from lorakit.functional.initialise import INITIALISERS
from lorakit.variants.site import Pair, Part, Shape, Site


@dataclass(frozen=True)
class ConvSite(Site):
    """A kernel W `(O, I/G, *kernel)` of a convolution with G groups."""

    shape: Shape
    """Of W."""
    groups: int = 1
    """G."""
    square: bool = False
    """Whether A and B have loralib's matrix form."""

    kind: ClassVar[str] = "conv"
    description: ClassVar[str] = "is a convolution"

    @property
    def weight_shape(self) -> Shape:
        return self.shape

    @property
    def in_features(self) -> int:  # type: ignore[override]
        """Input channels times kernel positions."""
        return math.prod(self.shape[1:]) * self.groups

    @property
    def out_features(self) -> int:  # type: ignore[override]
        return self.shape[0]

    def rank_problem(self, r: int) -> str | None:
        if self.square or r % self.groups == 0:
            return None
        return f"has groups={self.groups}; r={r} must be a multiple of it"

    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        out, width, *kernel = self.shape
        if self.square:
            k = kernel[0]
            return (r * k, width * self.groups * k), (out // self.groups * k, r * k)
        return (r, *self.shape[1:]), (out, r // self.groups, *(1 for _ in kernel))

    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        a_shape, b_shape = self.factor_shapes(r)
        if self.square:
            rank = b_shape[1]
            return INITIALISERS[init](weight.reshape(-1, a_shape[1]), rank)
        a, b = INITIALISERS[init](weight.flatten(1), r)
        return a.reshape(a_shape), b[:, : b_shape[1]].reshape(b_shape)

    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        return conv.delta(a, b, s, torch.Size(self.shape), self.groups)

    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        if self.square:
            yield a, b
            return
        for a_part, b_part in zip(a.chunk(self.groups), b.chunk(self.groups), strict=True):
            yield a_part.flatten(1), b_part.flatten(1)

    def join(self, pairs: Sequence[Pair]) -> Pair:
        a, b = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
        if self.square:
            return a, b
        return a.reshape(len(a), *self.shape[1:]), b.reshape(*b.shape, *(1 for _ in self.shape[2:]))

    def pair_rank(self, r: int) -> int:
        return r * self.shape[2] if self.square else r // self.groups

    def parts(self, weight: Tensor) -> Iterator[Part]:
        if self.square:
            height = self.shape[0] // self.groups * self.shape[2]
            yield (0, self.out_features), weight.reshape(height, -1)
            return
        height = self.shape[0] // self.groups
        for group, kernels in enumerate(weight.split(height)):
            yield (group * height, (group + 1) * height), kernels.flatten(1)
