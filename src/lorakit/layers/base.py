"""The state machine that all adapted layers share: settings, the merged weight, its life.

The pretrained weight W is never written. Where a merged weight would make a forward cheaper, the
layer keeps `W + scaling * B @ A` as a cache beside it: a plain attribute, so it is in no
state_dict, no copy and no pickle. The cache is built by the first forward that may use it
(evaluation mode, no gradient, allowed by `merge_weights`) and dropped when anything it came from
may have changed:

- W, A, B, what a variant trains beside them, or the scale: another object, another memory address
  or another version counter, compared at every use outside compiled code;
- the mode changes, a state is loaded, the module is moved or cast;
- a forward with gradients runs, or a torch optimizer that holds one of these tensors or a view of
  its memory steps. Fused optimizers do not raise the version counters, which is why the comparison
  alone would not do (torch 2.13).

What nobody can see (writing through `.data`, numpy or a raw pointer, in evaluation mode, without
one of the above) needs `lorakit.refresh`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lorakit.functional.merge import merge
from lorakit.functional.precision import without_autocast
from lorakit.layers.merge_cache_key import Origin, can_be_watched
from lorakit.layers.spec import AdapterSpec
from lorakit.private.torch_names import peek_interpreter_stack

if TYPE_CHECKING:
    from typing import Self

_with_cache: weakref.WeakSet[LoraLayer] = weakref.WeakSet()
_watching_optimizers = False


class LoraLayer(nn.Module):
    """An nn.Module with a frozen weight and a low-rank update beside it: `lora_A`, `lora_B`.

    Leaves say which weight it is, how A and B look and start, what dW is, and what forward does.
    """

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    spec: AdapterSpec
    scaling: float

    torch_class: ClassVar[type[nn.Module]]
    """The plain class this one adapts; a converted module may remember another one."""
    tensor_names: ClassVar[tuple[str, ...]] = ("lora_A", "lora_B")
    """The adapter's own parameters, A and B first; a variant may have more."""

    _active: bool = True
    _merging: bool = False
    _merged: Tensor | None = None
    _merged_from: Origin | None = None

    # --- what a leaf defines

    @property
    def base_weight(self) -> Tensor:
        """W, as it is stored."""
        raise NotImplementedError

    def initial_factors(self) -> tuple[Tensor, Tensor]:
        """Starting values of A and B for the settings in `spec`."""
        raise NotImplementedError

    def delta_weight(self) -> Tensor:
        """dW = scaling * B @ A, or what a variant has in its place, laid out as W is stored."""
        raise NotImplementedError

    @property
    def max_rank(self) -> int:
        """The rank above which another row of A adds nothing: min(in, out)."""
        raise NotImplementedError

    def expose(self) -> None:
        """Make reading the weight give W + dW, for a parent that never calls forward."""

    # --- settings

    def attach(self, spec: AdapterSpec, factors: tuple[Tensor, ...] | None = None) -> None:
        """Add A and B, from `factors` or freshly initialised, and freeze W. Rank 0 adds nothing."""
        self.spec = spec
        if spec.r == 0:
            return
        self.scaling = spec.scaling
        values = factors if factors is not None else self.initial_tensors()
        for name, value in zip(self.tensor_names, values, strict=True):
            self.register_parameter(name, nn.Parameter(value.contiguous()))
        self.base_weight.requires_grad_(False)

    def initial_tensors(self) -> tuple[Tensor, ...]:
        """Starting values of everything in `tensor_names`."""
        return self.initial_factors()

    def adapter_tensors(self) -> tuple[Tensor, ...]:
        """Everything in `tensor_names`."""
        tensors: tuple[Tensor, ...] = attrgetter(*self.tensor_names)(self)
        return tensors

    def reset_lora_parameters(self) -> None:
        """Give A and B their starting values anew, in place."""
        if self.r:
            self.set_adapter_tensors(self.initial_tensors())

    def set_adapter_tensors(self, values: tuple[Tensor, ...]) -> None:
        """Write these values into the adapter, in the order of `tensor_names`."""
        with torch.no_grad():
            for parameter, value in zip(self.adapter_tensors(), values, strict=True):
                parameter.copy_(value)
        self.drop_cache()

    @property
    def r(self) -> int:
        """The rank. It is the shape of A and B, so it cannot be changed; see `lorakit.inject`."""
        return self.spec.r

    @property
    def lora_alpha(self) -> float:
        """Numerator of the scale; setting it changes `scaling` at once."""
        return self.spec.lora_alpha

    @lora_alpha.setter
    def lora_alpha(self, value: float) -> None:
        self.spec = replace(self.spec, lora_alpha=value)
        self.scaling = self.spec.scaling

    @property
    def lora_dropout(self) -> float:
        """Probability with which an input of A is zeroed in training."""
        return self.spec.lora_dropout

    @lora_dropout.setter
    def lora_dropout(self, value: float) -> None:
        self.spec = replace(self.spec, lora_dropout=value)

    @property
    def merge_weights(self) -> bool:
        """Whether the merged weight may be kept as a cache in evaluation mode."""
        return self.spec.merge_weights

    @merge_weights.setter
    def merge_weights(self, value: bool) -> None:
        self.spec = replace(self.spec, merge_weights=value)
        if not value:
            self.drop_cache()

    @property
    def active(self) -> bool:
        """Whether the adapter takes part; see `lorakit.disabled`."""
        return self._active and self.spec.r > 0

    @active.setter
    def active(self, value: bool) -> None:
        self._active = value

    @property
    def merging(self) -> bool:
        """Whether the cache is allowed for a while; see `lorakit.merged`."""
        return self._merging

    @merging.setter
    def merging(self, value: bool) -> None:
        self._merging = value
        if not (value or self.spec.merge_weights):
            self.drop_cache()

    @property
    def dropout_now(self) -> float:
        """The dropout probability in force: 0 in evaluation mode."""
        return self.spec.lora_dropout if self.training else 0.0

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.r == 0:
            return text
        text = f"{text}, r={self.r}, lora_alpha={self.lora_alpha}"
        return f"{text} (r above min(in, out)={self.max_rank})" if self.r > self.max_rank else text

    # --- the merged weight

    @property
    def merged(self) -> bool:
        """Whether a merged weight is in the cache now."""
        return self._merged is not None

    def base_or_merged_weight(self) -> Tensor | None:
        """The weight with which the plain layer gives this output; None if A and B must be used.

        That is W itself where there is no active adapter, and the merged weight where it may be
        kept. Compiled code only reads the cache, so it must be built before: `lorakit.merged`.
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
        settled = self.base_or_merged_weight()
        return merge(self.base_weight, self.delta_weight()) if settled is None else settled

    def drop_cache(self) -> None:
        """Forget the merged weight; the next forward that may use one builds it anew."""
        self._merged = self._merged_from = None

    def build_cache(self) -> Tensor | None:
        """Merge now, if `base_or_merged_weight` would; None where it would not."""
        with torch.no_grad():
            return self.base_or_merged_weight() if self.active else None

    def _fresh_cache(self) -> Tensor | None:
        sources = (self.base_weight, *self.adapter_tensors())
        origin = self._merged_from
        if origin is not None and origin.is_still(sources, self.scaling):
            return self._merged
        self.drop_cache()
        if not all(map(can_be_watched, sources)) or _in_transform():
            return None
        with torch.inference_mode(False), torch.no_grad(), without_autocast(sources[0]):
            merged = merge(sources[0], self.delta_weight())
        if can_be_watched(merged):
            self._merged = merged
            self._merged_from = Origin.of(sources, self.scaling)
            _watch(self)
        return self._merged

    # --- events that end the cache's life

    def train(self, mode: bool = True) -> Self:
        if mode != self.training:
            self.drop_cache()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.drop_cache()
        base_was_meta = self.r > 0 and self.base_weight.is_meta
        values = tuple(t.detach() for t in self.adapter_tensors()) if base_was_meta else ()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if base_was_meta and not self.base_weight.is_meta:
            self._fill_after_to_empty(values)
        return self

    def _fill_after_to_empty(self, values: tuple[Tensor, ...]) -> None:
        """A and B as they were, or drawn anew: to_empty leaves whatever was in memory."""
        if any(value.is_meta for value in values):
            self.reset_lora_parameters()
        else:
            self.set_adapter_tensors(values)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.drop_cache()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Without the cache and the switches: a copy is as the layer is outside of them."""
        passing = {"_active", "_merging", "_merged", "_merged_from"}
        return {name: value for name, value in self.__dict__.items() if name not in passing}


def _in_transform() -> bool:
    """Whether torch.func's grad, jvp or vmap runs; its tensors must not outlive it in a cache."""
    return peek_interpreter_stack() is not None


def _watch(layer: LoraLayer) -> None:
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
        origin = layer._merged_from
        if origin is None or not stepped.isdisjoint(map(_memory, origin.storages)):
            layer.drop_cache()
            _with_cache.discard(layer)


def _memory(storage: torch.UntypedStorage) -> tuple[torch.device, int]:
    return storage.device, storage.data_ptr()
