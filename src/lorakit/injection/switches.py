"""Run an adapted model another way for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from lorakit.errors import StateError
from lorakit.functional.merge import rounding_loss
from lorakit.injection import copies
from lorakit.injection.adaptation import require_adapters
from lorakit.layers.base import LoraLayer
from lorakit.layers.conversion import lora_layers


@dataclass(frozen=True)
class MergeReport:
    """What merging costs: memory, and the part of the update that the weight's type rounds away."""

    cache_bytes: int
    rounding: dict[str, float]
    """||(round(W + dW) - W) - dW|| / ||dW|| by layer: about 1e-7 in float32, often above 0.1 in
    bfloat16."""

    @property
    def worst_rounding(self) -> float:
        """The largest share of a layer's update that is lost."""
        return max(self.rounding.values(), default=0.0)


@contextmanager
def merged(model: nn.Module) -> Iterator[MergeReport]:
    """Inference at the base's speed: inside, every layer uses a cached W + scaling * B A.

    The caches are built on entry and dropped on exit; the weights are never written, so there is
    nothing to undo. They take the adapted weights once more in memory. Forwards with gradients
    inside take the unmerged path.

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
    before = [layer.merge_weights for layer in layers]
    try:
        for layer in layers:
            layer.merge_weights = True
            layer.build_cache()
        yield merge_report(model)
    finally:
        for layer, allowed in zip(layers, before, strict=True):
            layer.merge_weights = allowed


def merge_report(model: nn.Module) -> MergeReport:
    """What merging this model's adapters costs."""
    layers = dict(lora_layers(model))
    with torch.no_grad():
        return MergeReport(
            cache_bytes=sum(layer.base_weight.nbytes for layer in layers.values()),
            rounding={name: layer_rounding(layer) for name, layer in layers.items()},
        )


def layer_rounding(layer: LoraLayer) -> float:
    """The share of this layer's update that merging loses."""
    return rounding_loss(layer.base_weight.detach(), layer.delta_weight().detach())


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The base's own output inside, heads and biases included: reference logits, comparisons.

    All threads see it. Raises StateError if the model has no adapters.
    """
    layers = require_adapters(model)
    copies.swap(model)
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True
        copies.swap(model)


def refresh(model: nn.Module) -> None:
    """Drop every merged weight, after edits that nothing can see.

    Needed in evaluation mode after writing to W, A or B through `.data`, numpy or a raw pointer
    when no optimizer step, mode change, load or move follows.
    """
    for layer in require_adapters(model):
        layer.drop_cache()
