"""The merged weight W + dW as a cache next to W, and when it is invalidated.

The pretrained weight W is never written. Where a merged weight would make a forward cheaper, the
layer caches `W + dW` as a plain attribute, which is in no state_dict, no copy and no pickle. The
cache is built by the first forward that may use it (eval mode, no gradient, allowed by
`merge_weights`) and dropped when anything that it was computed from may have changed:

- W, the adapter's tensors or the scale: another object, memory or version counter, and on a CPU
  other numbers, compared at every use (`merge_cache`);
- one of them is assigned, the mode changes, a state is loaded, the module is moved or cast;
- a forward with gradients runs, or a torch optimizer steps on one of its tensors.

The adapter's tensors are copied, and dW is computed from the copies: what another thread writes
meanwhile differs from them. A change that cannot be detected needs `lorakit.refresh`. A CUDA graph
computes with A and B; streams other than the cache's own wait for it (`cuda_streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorakit.functional.capture import is_captured
from lorakit.functional.merge import merge
from lorakit.functional.precision import without_autocast
from lorakit.layers.compiled_cache import refresh_merged
from lorakit.layers.cuda_streams import Computed, let_use
from lorakit.layers.merge_cache import (
    MergeCacheKey,
    can_be_watched,
    in_transform,
    is_stepped_on,
    watch,
)
from lorakit.surgery.disabling import here, is_disabled
from lorakit.variants import AdapterSpec

if TYPE_CHECKING:
    from typing import Self

PASSING = {"_active", "_merging", "_merge_cache", "_merge_life"}
"""Attributes that copy and pickle skip: a copy has no cache and no temporary state."""


class MergedWeight(nn.Module):
    """The part of an adapted layer that decides which weight its forward may use."""

    spec: AdapterSpec
    scaling: float

    _active: bool = True
    _merging: bool = False
    _merge_cache: tuple[Tensor, MergeCacheKey, Computed | None] | None = None
    """The merged weight, its key and stream, in one attribute: other threads see all or none."""
    _merge_life: object = None
    """Replaced by each event that drops the cache, one that is being built included."""

    @property
    def base_weight(self) -> Tensor:
        """W, as it is stored."""
        raise NotImplementedError

    def adapter_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that dW is computed from."""
        raise NotImplementedError

    def delta_of(self, tensors: Sequence[Tensor]) -> Tensor:
        """dW of these tensors in place of the adapter's, laid out as W is stored."""
        raise NotImplementedError

    def delta_weight(self) -> Tensor:
        """dW, laid out as W is stored, differentiable in what trains."""
        return self.delta_of(self.adapter_tensors())

    @property
    def acting(self) -> Self | None:
        """The layer that computes with an adapter here and now; itself, if it has one."""
        return self if self.spec.r else None

    @property
    def active(self) -> bool:
        """Whether the adapter is enabled, here and now; see `lorakit.disabled`."""
        return self._active and self.spec.r > 0 and not (here.disabled and is_disabled(self))

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
        return self._merge_cache is not None

    @property
    def _merged(self) -> Tensor | None:
        """The cached weight, right or not."""
        return None if self._merge_cache is None else self._merge_cache[0]

    @property
    def merged_from(self) -> MergeCacheKey | None:
        """What the cached weight was computed from."""
        return None if self._merge_cache is None else self._merge_cache[1]

    def base_or_merged_weight(self) -> Tensor | None:
        """The weight with which the plain layer computes this output; None if A and B are needed.

        That is W itself where no adapter is enabled, and the merged weight where it may be cached.
        Compiled code uses a cache that is there and builds none: `lorakit.merged`.
        """
        # `AdapterLayer.forward` asks first whether this could give a weight: they have to agree.
        if not (self._active and self.spec.r) or (here.disabled and is_disabled(self)):
            return self.base_weight
        compiling = torch.compiler.is_compiling()
        may_keep = self.spec.merge_weights or self._merging
        if self.training or not may_keep or torch.is_grad_enabled():
            if self._merge_cache is not None and not compiling:
                self.drop_cache()
            return None
        return self._compiled_cache() if compiling else self._fresh_cache()

    def effective_weight(self) -> Tensor:
        """W + dW, differentiable in A and B; the cache where it may be used."""
        weight = self.base_or_merged_weight()
        return merge(self.base_weight, self.delta_weight()) if weight is None else weight

    def drop_cache(self) -> None:
        """Drop the merged weight; the next forward that may use one rebuilds it."""
        self._merge_life = object()
        self._merge_cache = None

    def build_cache(self) -> Tensor | None:
        """Build the cache now, where `base_or_merged_weight` would; None where it would not."""
        with torch.no_grad():
            return self.base_or_merged_weight() if self.active else None

    def _fresh_cache(self) -> Tensor | None:
        if is_captured(self.base_weight):
            return None  # a replay would use memory that the layer has freed or filled anew
        sources, life, cache = self._sources(), self._merge_life, self._merge_cache
        if cache is not None and cache[1].matches(sources, self.scaling, life):
            merged, _, computed = cache
            let_use(merged, computed)
            return merged
        if not all(map(can_be_watched, sources)) or in_transform():
            self.drop_cache()
            return None
        watch(self)
        with torch.inference_mode(False), torch.no_grad(), without_autocast(sources[0]):
            key = MergeCacheKey.of(sources, self.scaling, life)
            merged = merge(sources[0], self.delta_of(key.adapter_values))
        if not can_be_watched(merged):
            return None
        self._keep(merged, key)
        return merged

    def _keep(self, merged: Tensor, key: MergeCacheKey) -> None:
        """Cache a merged weight, unless something has changed since its key was made."""
        self._merge_cache = merged, key, Computed.now(merged)
        if is_stepped_on(key) or not key.matches(self._sources(), self.scaling, self._merge_life):
            self.drop_cache()

    def _sources(self) -> tuple[Tensor, ...]:
        return self.base_weight, *self.adapter_tensors()

    def _compiled_cache(self) -> Tensor | None:
        """The cache if there is one, for compiled code, which checks it in `refresh_merged`."""
        merged = self._merged
        if merged is None or torch.compiler.is_exporting():
            return None
        if merged.is_cpu:
            refresh_merged(merged, id(self))
        return merged

    # --- events that invalidate the cache

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "scaling" or isinstance(value, Tensor):
            self.drop_cache()

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

    def _replicate_for_data_parallel(self) -> Self:
        replica: Self = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica._active = self.active  # in the thread that makes it; it runs in another
        return replica

    def __getstate__(self) -> dict[str, Any]:
        """Without the cache, temporary states, and what `compile` left, which runs this module."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {name: value for name, value in state.items() if name not in PASSING}
