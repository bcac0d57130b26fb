"""What a merged weight was made from, and the events that end its life.

A cache of W + dW is stale as soon as anything that it came from may have changed. Tensors tell by
their identity, address and version counter. Fused optimizers do not raise the counter, so a torch
optimizer that steps on one of these tensors, or on a view of its memory, drops the cache as well
(torch 2.13).
"""

from __future__ import annotations

import weakref
from operator import is_
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from lorakit.private.torch_names import is_fake, peek_interpreter_stack, version_of


class MergeCacheKey(NamedTuple):
    """What a merged weight was made from."""

    sources: tuple[Tensor, ...]
    pointers: list[int]
    versions: list[int]
    scaling: float
    storages: tuple[torch.UntypedStorage, ...]
    """Held, since an address that became free could be the next tensor's."""

    @classmethod
    def of(cls, sources: tuple[Tensor, ...], scaling: float) -> MergeCacheKey:
        storages = tuple(source.untyped_storage() for source in sources)
        pointers, versions = list(map(_pointer, sources)), list(map(version_of, sources))
        return cls(sources, pointers, versions, scaling, storages)

    def is_still(self, sources: tuple[Tensor, ...], scaling: float) -> bool:
        """Tensors by identity, their addresses, versions and the scale by value."""
        return (
            all(map(is_, sources, self.sources))
            and scaling == self.scaling
            and list(map(version_of, sources)) == self.versions
            and list(map(_pointer, sources)) == self.pointers
        )


_pointer = Tensor.data_ptr


def can_be_watched(tensor: Tensor) -> bool:
    """Whether address and version tell that it changed.

    Inference tensors count no versions; the fake tensors of tracing have no address.
    """
    return not tensor.is_inference() and not is_fake(tensor)


def in_transform() -> bool:
    """Whether torch.func's grad, jvp or vmap runs; its tensors must not outlive it in a cache."""
    return peek_interpreter_stack() is not None


class Cached(Protocol):
    """What has a merged weight."""

    _merged_from: MergeCacheKey | None

    def drop_cache(self) -> None: ...


_with_cache: weakref.WeakSet[Cached] = weakref.WeakSet()
_watching_optimizers = False


def watch(layer: Cached) -> None:
    """Drop this layer's cache when an optimizer steps on what it came from."""
    global _watching_optimizers
    if not _watching_optimizers:
        register_optimizer_step_post_hook(_drop_stepped)
        _watching_optimizers = True
    _with_cache.add(layer)


def _drop_stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    if not _with_cache:
        return
    tensors = (tensor for group in optimizer.param_groups for tensor in group["params"])
    stepped = {_memory(tensor.untyped_storage()) for tensor in tensors}
    for layer in list(_with_cache):
        key = layer._merged_from
        if key is None or not stepped.isdisjoint(map(_memory, key.storages)):
            layer.drop_cache()
            _with_cache.discard(layer)


def _memory(storage: torch.UntypedStorage) -> tuple[torch.device, int]:
    return storage.device, storage.data_ptr()
