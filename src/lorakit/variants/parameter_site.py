"""The site of a parameter that its module reads itself, such as the experts of a mixture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lorakit.functional import experts
from lorakit.functional.initialise import INITIALISERS
from lorakit.variants.site import Pair, Part, Shape, Site, Sited


@dataclass(frozen=True)
class ParameterSite(Site):
    """A parameter W (E, O, I) with a matrix for each expert, or (O, I), which is one matrix.

    A file does not say how W is stored; where only that is known, it is taken as (E, O, I).
    """

    in_features: int
    out_features: int
    experts: int = 0
    """E; 0 for a parameter of two dimensions."""
    transposed: bool = False
    """Whether W is stored (E, I, O)."""

    kind: ClassVar[str] = "parameter"
    description: ClassVar[str] = "is a parameter that its module reads itself"

    @property
    def count(self) -> int:
        """The number of matrices."""
        return self.experts or 1

    @property
    def weight_shape(self) -> Shape:
        matrix = self.out_features, self.in_features
        matrix = matrix[::-1] if self.transposed else matrix
        return (self.experts, *matrix) if self.experts else matrix

    def factor_shapes(self, r: int) -> tuple[Shape, Shape]:
        return (r * self.count, self.in_features), (self.out_features, r * self.count)

    def initial_factors(self, weight: Tensor, r: int, init: bool | str) -> Pair:
        return self.join([INITIALISERS[init](part, r) for _, part in self.parts(weight)])

    def product(self, a: Tensor, b: Tensor, s: float) -> Tensor:
        delta_EOI = experts.delta(a, b, s, self.count)
        return (delta_EOI.mT if self.transposed else delta_EOI).reshape(self.weight_shape)

    def pairs(self, a: Tensor, b: Tensor) -> Iterator[Pair]:
        yield from zip(*experts.as_stacks(a, b, self.count), strict=True)

    def join(self, pairs: Sequence[Pair]) -> Pair:
        a, b = (torch.stack(factors) for factors in zip(*pairs, strict=True))
        return experts.from_stacks(a, b)

    def parts(self, weight: Tensor) -> Iterator[Part]:
        for e, matrix in enumerate(weight.reshape(self.count, *weight.shape[-2:])):
            span = e * self.out_features, (e + 1) * self.out_features
            yield span, matrix.t() if self.transposed else matrix

    def block(self, a: Tensor, b: Tensor, start: int, stop: int) -> tuple[Site, Pair] | None:
        if not self.experts:
            return replace(self, out_features=stop - start), (a, b[start:stop])
        a_ERI, b_EOR = experts.as_stacks(a, b, self.experts)
        here = replace(self, experts=stop - start)
        return here, experts.from_stacks(a_ERI[start:stop], b_EOR[start:stop])


def parameters_of(adapters: Mapping[str, Sited]) -> list[str]:
    """The names of those that adapt a parameter by itself."""
    return [name for name, adapter in adapters.items() if isinstance(adapter.site, ParameterSite)]
