"""What a merged weight was computed from, and the events that invalidate it.

A cached W + dW is stale as soon as any tensor that it was computed from may have changed: another
object, address or version counter. Fused optimizers do not increment the counter, so the step of a
torch optimizer on one of these tensors, or on a view of its memory, drops the cache as well (torch
2.13).
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
    """What a merged weight was computed from."""

    sources: tuple[Tensor, ...]
    pointers: list[int]
    versions: list[int]
    scaling: float
    storages: tuple[torch.UntypedStorage, ...]
    """Kept alive, since a freed address could be reused by another tensor."""

    @classmethod
    def of(cls, sources: tuple[Tensor, ...], scaling: float) -> MergeCacheKey:
        storages = tuple(source.untyped_storage() for source in sources)
        pointers, versions = list(map(_pointer, sources)), list(map(version_of, sources))
        return cls(sources, pointers, versions, scaling, storages)

    def matches(self, sources: tuple[Tensor, ...], scaling: float) -> bool:
        """Compare tensors by identity, addresses, versions and the scaling by value."""
        return (
            all(map(is_, sources, self.sources))
            and scaling == self.scaling
            and list(map(version_of, sources)) == self.versions
            and list(map(_pointer, sources)) == self.pointers
        )


_pointer = Tensor.data_ptr


def can_be_watched(tensor: Tensor) -> bool:
    """Whether address and version show a change.

    Inference tensors have no version counter; the fake tensors of tracing have no address.
    """
    return not tensor.is_inference() and not is_fake(tensor)


def in_transform() -> bool:
    """Whether torch.func's grad, jvp or vmap runs, whose tensors must not be cached."""
    return peek_interpreter_stack() is not None


class Cached(Protocol):
    """A layer with a merged weight."""

    _merged_from: MergeCacheKey | None

    def drop_cache(self) -> None: ...


_with_cache: weakref.WeakSet[Cached] = weakref.WeakSet()
_watching_optimizers = False


def watch(layer: Cached) -> None:
    """Drop this layer's cache when an optimizer steps on a tensor that it was computed from."""
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
