"""What adapters do to one tensor of a base: a change of its rows, or other values in its place.

    W' = round(W + sum of w_i dW_i)        in float32, rounded once to the type of W

Rows are computed a block at a time where a change allows that, so that no tensor is in memory as
a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lorakit.functional.merge import merge
from lorakit.variants import ModuleAdapter, SlicedSite
from lorakit.variants.combination import weighted_sum


class Change(Protocol):
    """One adapter's change of one tensor."""

    @property
    def is_blockwise(self) -> bool:
        """Whether some rows can be changed without the others."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it is made of: two changes with the same ones are the same."""

    def delta(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """The rows [start, stop) of dW, from those of W; in at least float32."""

    def merged(self, weight: Tensor, delta: Tensor, start: int, stop: int) -> Tensor:
        """Those of W', in W's type, from those of W and of dW."""


@dataclass(frozen=True)
class Adapted:
    """The change that an adapter makes."""

    adapter: ModuleAdapter
    layer: str
    """The name of what it adapts, for the report."""

    @property
    def is_blockwise(self) -> bool:
        return self.adapter.block(0, 1) is not None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.adapter.tensors.values())

    def delta(self, weight: Tensor, start: int, stop: int) -> Tensor:
        return self._at(start, stop).delta(weight)

    def merged(self, weight: Tensor, delta: Tensor, start: int, stop: int) -> Tensor:
        if self.adapter.variant.is_low_rank:
            return merge(weight, delta)
        here = self._at(start, stop)
        assert here.site is not None
        return here.variant.merged(here.site, weight, here.tensors, here.spec.scaling)

    def _at(self, start: int, stop: int) -> ModuleAdapter:
        return self.adapter.block(start, stop) or self.adapter


@dataclass(frozen=True)
class _Values:
    """One value for each number of the tensor."""

    value: Tensor
    is_blockwise: ClassVar[bool] = True

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.value,)


class Placed(_Values):
    """Other values in place of the base's: of a head, a bias, a norm that was trained."""

    def delta(self, weight: Tensor, start: int, stop: int) -> Tensor:
        wide = torch.promote_types(weight.dtype, torch.float32)
        return self._at(start, stop).to(wide) - weight.to(wide)

    def merged(self, weight: Tensor, delta: Tensor, start: int, stop: int) -> Tensor:
        return self._at(start, stop).to(weight.dtype)

    def _at(self, start: int, stop: int) -> Tensor:
        return self.value[start:stop] if self.value.ndim else self.value


class Added(_Values):
    """A vector that is added to a layer's bias."""

    def delta(self, weight: Tensor, start: int, stop: int) -> Tensor:
        return self.value[start:stop]

    def merged(self, weight: Tensor, delta: Tensor, start: int, stop: int) -> Tensor:
        return merge(weight, delta)


Terms = Sequence[tuple[Change, float]]
"""Changes and their weights."""


@dataclass
class Rounding:
    """How much of an update rounding loses, summed over blocks."""

    lost: float = 0.0
    size: float = 0.0

    def add(self, weight: Tensor, merged: Tensor, delta: Tensor) -> None:
        """Another block: W, W' in its type, and dW."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        error = merged.to(wide, copy=True).sub_(weight).sub_(delta)
        self.lost += float(torch.linalg.vector_norm(error)) ** 2
        self.size += float(torch.linalg.vector_norm(delta)) ** 2

    @property
    def share(self) -> float:
        """||round(W + dW) - W - dW|| / ||dW||; 0 where there is no update."""
        return (self.lost / self.size) ** 0.5 if self.size else 0.0


def total_share(parts: Iterable[Rounding]) -> float:
    """The share of all updates together that was lost."""
    parts = list(parts)
    return Rounding(sum(x.lost for x in parts), sum(x.size for x in parts)).share


@dataclass(frozen=True)
class Merger:
    """The rows of one tensor, merged; counts what rounding loses."""

    terms: Terms
    rounding: Rounding = field(default_factory=Rounding)

    @property
    def is_blockwise(self) -> bool:
        """Whether some rows can be merged without the others."""
        return all(change.is_blockwise for change, _ in self.terms)

    def merged(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """The rows [start, stop) of W', from those of W."""
        change, factor = self.terms[0]
        if len(self.terms) == 1 and factor == 1:
            delta = change.delta(weight, start, stop)
            result = change.merged(weight, delta, start, stop)
        else:
            delta = reduce(torch.add, (c.delta(weight, start, stop) * w for c, w in self.terms))
            result = merge(weight, delta)
        self.rounding.add(weight, result, delta)
        return result


def adapted(adapter: ModuleAdapter, layer: str) -> Adapted:
    """The change of an adapter; slices as one adapter of the whole weight, whose rows are alone."""
    sliced = isinstance(adapter.site, SlicedSite) and adapter.variant.is_low_rank
    return Adapted(weighted_sum([(adapter, 1.0)]) if sliced else adapter, layer)
