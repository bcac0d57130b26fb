"""What a merged weight was computed from, and the events that invalidate it.

A cached W + dW is stale as soon as any tensor that it was computed from may have changed: another
object, memory or version counter. No counter tells of a fused optimizer, of `.data`, of numpy or of
a collective of torch.distributed. So, on a CPU, A and B are compared number by number with the
copies that dW was computed from, which takes microseconds, and W, which is large, in a few numbers.
On another device that would wait for the device: there the rest decides.

The step of a torch optimizer on one of these tensors, or on a view of its memory, drops the cache
before and after, and none is kept while it runs or once it has raised (torch 2.13).
"""

from __future__ import annotations

import weakref
from itertools import starmap
from operator import is_
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from lorakit.layers.weight_mark import sample
from lorakit.private.torch_names import is_fake, peek_interpreter_stack, version_of


class MergeCacheKey(NamedTuple):
    """What a merged weight was computed from."""

    sources: tuple[Tensor, ...]
    """W and the adapter's tensors."""
    storages: list[torch.UntypedStorage]
    """Held, so that none of them can be mistaken for another at an address that was freed."""
    pointers: list[int]
    versions: list[int]
    scaling: float
    adapter_values: list[Tensor]
    """Copies of the adapter's tensors, which dW is computed from."""
    compared: list[tuple[Tensor, Tensor]]
    """Views of the sources, of W a sample and of the others all, each with a copy."""
    life: object
    """The layer's, which each event ends that drops its cache."""

    @classmethod
    def of(cls, sources: tuple[Tensor, ...], scaling: float, life: object) -> MergeCacheKey:
        weight, *tensors = (source.detach() for source in sources)
        part, copies = sample(weight), [tensor.clone() for tensor in tensors]
        return cls(
            sources,
            list(map(_storage, sources)),
            list(map(_pointer, sources)),
            list(map(version_of, sources)),
            scaling,
            copies,
            [(part, part.clone()), *map(_as_words, tensors, copies)],
            life,
        )

    def matches(self, sources: tuple[Tensor, ...], scaling: float, life: object) -> bool:
        """Whether nothing has changed, as far as can be seen."""
        return (
            life is self.life
            and all(map(is_, sources, self.sources))
            and scaling == self.scaling
            and list(map(version_of, sources)) == self.versions
            and list(map(_pointer, sources)) == self.pointers
            and all(map(is_, map(_storage, sources), self.storages))
            and (not sources[0].is_cpu or all(starmap(torch.equal, self.compared)))
        )


_pointer = Tensor.data_ptr
_storage = Tensor.untyped_storage


def _as_words(tensor: Tensor, copy: Tensor) -> tuple[Tensor, Tensor]:
    """Both as 64-bit integers where they can be: they compare twice as fast, and NaN as itself."""
    both = tensor, copy
    if not all(t.is_contiguous() and _is_whole_words(t) for t in both):
        return both
    words, copied = (t.view(-1).view(torch.int64) for t in both)
    return words, copied


def _is_whole_words(tensor: Tensor) -> bool:
    start = tensor.storage_offset() * tensor.element_size()
    return start % 8 == tensor.nbytes % 8 == 0


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

    @property
    def merged_from(self) -> MergeCacheKey | None: ...

    def drop_cache(self) -> None: ...

    def effective_weight(self) -> Tensor: ...


_watched: weakref.WeakValueDictionary[int, Cached] = weakref.WeakValueDictionary()
_stepping: weakref.WeakValueDictionary[int, Optimizer] = weakref.WeakValueDictionary()
"""Optimizers between the beginning and the end of a step; after an error until the next step."""
_watching_optimizers = False


def watch(layer: Cached) -> None:
    """Drop this layer's cache when an optimizer steps on a tensor that it was computed from.

    Called before the cache is built, so that a step meanwhile, in another thread, is seen too.
    """
    global _watching_optimizers
    if not _watching_optimizers:
        register_optimizer_step_pre_hook(_begin_step)
        register_optimizer_step_post_hook(_end_step)
        _watching_optimizers = True
    _watched[id(layer)] = layer


def unwatch(module: object) -> None:
    """Forget a module that is no adapted layer any more."""
    _watched.pop(id(module), None)


def watched(layer: int) -> Cached:
    """The layer with this id, which has had a cache."""
    return _watched[layer]


def is_stepped_on(key: MergeCacheKey) -> bool:
    """Whether the step of an optimizer on one of these tensors is under way, or has failed."""
    memories = set(map(_memory, key.storages))
    optimizers = [reference() for reference in _stepping.valuerefs()]
    return any(o is not None and not memories.isdisjoint(_memories(o)) for o in optimizers)


def _begin_step(optimizer: Optimizer, *_: Any) -> None:
    _stepping[id(optimizer)] = optimizer
    _drop_stepped(optimizer)


def _end_step(optimizer: Optimizer, *_: Any) -> None:
    _drop_stepped(optimizer)
    _stepping.pop(id(optimizer), None)


def _drop_stepped(optimizer: Optimizer) -> None:
    if not _watched:
        return
    stepped = _memories(optimizer)
    for reference in _watched.valuerefs():  # a list, so other threads may go on adding
        layer = reference()
        if layer is None:
            continue
        key = layer.merged_from
        if key is None or not stepped.isdisjoint(map(_memory, key.storages)):
            layer.drop_cache()


def _memories(optimizer: Optimizer) -> set[tuple[torch.device, int]]:
    tensors = (tensor for group in optimizer.param_groups for tensor in group["params"])
    return {_memory(tensor.untyped_storage()) for tensor in tensors if not is_fake(tensor)}


def _memory(storage: torch.UntypedStorage) -> tuple[torch.device, int]:
    return storage.device, storage.data_ptr()
