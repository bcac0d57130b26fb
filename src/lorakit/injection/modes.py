"""Context managers for an adapted model: merged weights, disabled adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import RLock
from weakref import WeakKeyDictionary

import torch
from torch import nn

from lorakit.errors import StateError
from lorakit.injection import trained_copies
from lorakit.injection.record import require_adapters, shared_modules
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.additions import owners
from lorakit.surgery.disabling import Disabled


@dataclass(frozen=True)
class MergeReport:
    """What merging costs: memory, and the part of the update lost to rounding."""

    cache_bytes: int
    rounding: dict[str, float]
    """||(round(W + dW) - W) - dW|| / ||dW|| by layer: about 1e-7 in float32, often above 0.1 in
    bfloat16."""

    @property
    def worst_rounding(self) -> float:
        """The largest share of a layer's update that is lost."""
        return max(self.rounding.values(), default=0.0)


class Switch:
    """A temporary state of modules: on with the first caller, off after the last.

    So the context managers nest, and threads that share a model may overlap in them.
    """

    def __init__(self, switch: Callable[[nn.Module, bool], None]) -> None:
        self._switch = switch
        self._callers: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._lock = RLock()

    @contextmanager
    def held(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """A context in which the state is on for these modules."""
        modules = list(dict.fromkeys(modules))
        with self._lock:
            for module in modules:
                if module not in self._callers:
                    self._switch(module, True)
                self._callers[module] = self._callers.get(module, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                for module in modules:
                    callers = self._callers.pop(module)
                    if callers > 1:
                        self._callers[module] = callers - 1
                    else:
                        self._switch(module, False)


def _set_merging(layer: nn.Module, on: bool) -> None:
    if isinstance(layer, AdapterLayer):  # unless it was ejected or folded inside
        layer.merging = on


_MERGED = Switch(_set_merging)


@contextmanager
def merged(model: nn.Module) -> Iterator[MergeReport]:
    """Inference at the base's speed: inside, each layer of `model` uses a cached W + scaling * B A.

    The caches are built on entry and dropped on exit; the weights are never written, so nothing is
    unmerged. They take the memory of the adapted weights once more. Forwards with gradients inside
    use the unmerged path.

    Raises StateError if the model has no adapters or is in training mode.

    >>> from lorakit.config import LoraConfig
    >>> from lorakit.injection.adaptation import inject
    >>> model = nn.Sequential(nn.Linear(4, 4)).eval()
    >>> _ = inject(model, LoraConfig(r=2, target_modules="all-linear"))
    >>> with merged(model) as report, torch.no_grad():
    ...     y = model(torch.ones(1, 4))
    >>> report.cache_bytes
    64
    """
    layers = require_adapters(model)
    if any(layer.training for layer in layers):
        raise StateError("This model is in training mode; call model.eval() before merging.")
    with _MERGED.held(layers):
        for layer in layers:
            layer.build_cache()
        yield merge_report(model)


def merge_report(model: nn.Module) -> MergeReport:
    """What merging this model's adapters costs."""
    layers = {**dict(lora_layers(model)), **_acting(model)}
    with torch.no_grad():
        return MergeReport(
            cache_bytes=sum(
                layer.base_weight.nbytes
                for layer in layers.values()
                if layer.variant.is_worth_merging
            ),
            rounding={name: layer.rounding_loss() for name, layer in layers.items()},
        )


def _acting(model: nn.Module) -> dict[str, AdapterLayer]:
    """The layers with the adapter that a set has chosen here and now, by module name."""
    shared = (
        (n, m) for n, m in model.named_modules() if isinstance(m, AdapterLayer) and m.is_shared
    )
    return {name: acting for name, module in shared if (acting := module.acting) is not None}


def disabled(model: nn.Module) -> Disabled:
    """Inside, `model` computes the base model's output, with the original heads and biases.

    For instance for reference logits. As `torch.no_grad` it applies to the thread that enters it,
    and not to threads that are started inside. Gradient checkpointing recomputes in backward: call
    it on the side of the block on which the forward was. It also decorates a function. Entering
    raises StateError if the model has no adapters, or if the values of a head or bias before
    `inject` are unknown.
    """
    return Disabled(partial(_with_originals, model))


def _with_originals(model: nn.Module) -> list[nn.Module]:
    """The modules of this model that can be disabled, with originals that fit their copies."""
    layers = require_adapters(model)
    trained_copies.require_values(model)
    holders = list(trained_copies.holders(model))
    for module in holders:
        trained_copies.follow(module)
    added = [module for _, module in owners(model)]
    return [*layers, *holders, *added, *shared_modules(model)]


def refresh(model: nn.Module) -> None:
    """Drop every cached merged weight of `model`, after changes that cannot be detected.

    Needed in eval mode after writing to W, A or B through `.data`, numpy or a raw pointer
    when no optimizer step, mode change, load or move follows. An AdapterSet looks at its base anew.
    """
    for layer in require_adapters(model):
        layer.drop_cache()
