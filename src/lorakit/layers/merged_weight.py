"""The merged weight W + dW as a cache next to W, and when it is invalidated.

The pretrained weight W is never written. Where a merged weight would make a forward cheaper, the
layer caches `W + dW` as a plain attribute, which is in no state_dict, no copy and no pickle. The
cache is built by the first forward that may use it (eval mode, no gradient, allowed by
`merge_weights`) and dropped when anything that it was computed from may have changed:

- W, the adapter's tensors or the scale: another object, another memory address or another version
  counter, compared at every use outside compiled code;
- the mode changes, a state is loaded, the module is moved or cast;
- a forward with gradients runs, or a torch optimizer steps on one of its tensors (`merge_cache`).

A change that cannot be detected (through `.data`, numpy or a raw pointer, in eval mode, without any
of the above) needs `lorakit.refresh`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorakit.functional.merge import merge
from lorakit.functional.precision import without_autocast
from lorakit.layers.merge_cache import MergeCacheKey, can_be_watched, in_transform, watch
from lorakit.variants import AdapterSpec

if TYPE_CHECKING:
    from typing import Self

PASSING = {"_active", "_merging", "_merged", "_merged_from"}
"""Attributes that no copy takes along: a copy is as the layer is outside of switches."""


class MergedWeight(nn.Module):
    """The part of an adapted layer that decides which weight its forward may use."""

    spec: AdapterSpec
    scaling: float

    _active: bool = True
    _merging: bool = False
    _merged: Tensor | None = None
    _merged_from: MergeCacheKey | None = None

    @property
    def base_weight(self) -> Tensor:
        """W, as it is stored."""
        raise NotImplementedError

    def adapter_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that dW is computed from."""
        raise NotImplementedError

    def delta_weight(self) -> Tensor:
        """dW, laid out as W is stored, differentiable in what trains."""
        raise NotImplementedError

    @property
    def active(self) -> bool:
        """Whether the adapter is enabled; see `lorakit.disabled`."""
        return self._active and self.spec.r > 0

    @active.setter
    def active(self, value: bool) -> None:
        self._active = value

    @property
    def merging(self) -> bool:
        """Whether the cache is allowed temporarily; see `lorakit.merged`."""
        return self._merging

    @merging.setter
    def merging(self, value: bool) -> None:
        self._merging = value
        if not (value or self.spec.merge_weights):
            self.drop_cache()

    @property
    def merged(self) -> bool:
        """Whether a merged weight is cached now."""
        return self._merged is not None

    def base_or_merged_weight(self) -> Tensor | None:
        """The weight with which the plain layer computes this output; None if A and B are needed.

        That is W itself where no adapter is enabled, and the merged weight where it may be cached.
        Compiled code only reads the cache, so it must be built before: `lorakit.merged`.
        """
        if not (self._active and self.spec.r):
            return self.base_weight
        compiling = torch.compiler.is_compiling()
        may_keep = self.spec.merge_weights or self._merging
        if self.training or not may_keep or torch.is_grad_enabled():
            if self._merged is not None and not compiling:
                self.drop_cache()
            return None
        return self._merged if compiling else self._fresh_cache()

    def effective_weight(self) -> Tensor:
        """W + dW, differentiable in A and B; the cache where it may be used."""
        weight = self.base_or_merged_weight()
        return merge(self.base_weight, self.delta_weight()) if weight is None else weight

    def drop_cache(self) -> None:
        """Drop the merged weight; the next forward that may use one rebuilds it."""
        self._merged = self._merged_from = None

    def build_cache(self) -> Tensor | None:
        """Build the cache now, where `base_or_merged_weight` would; None where it would not."""
        with torch.no_grad():
            return self.base_or_merged_weight() if self.active else None

    def _fresh_cache(self) -> Tensor | None:
        sources = (self.base_weight, *self.adapter_tensors())
        key = self._merged_from
        if key is not None and key.matches(sources, self.scaling):
            return self._merged
        self.drop_cache()
        if not all(map(can_be_watched, sources)) or in_transform():
            return None
        with torch.inference_mode(False), torch.no_grad(), without_autocast(sources[0]):
            merged = merge(sources[0], self.delta_weight())
        if can_be_watched(merged):
            self._merged = merged
            self._merged_from = MergeCacheKey.of(sources, self.scaling)
            watch(self)
        return self._merged

    # --- events that invalidate the cache

    def train(self, mode: bool = True) -> Self:
        if mode != self.training:
            self.drop_cache()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.drop_cache()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.drop_cache()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in PASSING}
