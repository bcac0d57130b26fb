"""Make the adapters part of the weights, for deployment."""

from __future__ import annotations

import torch
from torch import nn

from lorakit.errors import TargetError
from lorakit.functional.merge import merge
from lorakit.injection import copies
from lorakit.injection.adaptation import close_record, require_adapters
from lorakit.injection.switches import MergeReport, merge_report
from lorakit.layers.conversion import lora_layers, restore
from lorakit.layers.embedding import Embedding
from lorakit.surgery.ties import storage_key


def fold(model: nn.Module) -> MergeReport:
    """Plain modules with W + scaling * B A in new Parameters; one way.

    Layer by layer, so the memory for one extra weight is enough. The old weight tensor is not
    written: whoever else holds it keeps it. A weight that was tied to another module's is untied by
    that, and a transformers config says so (`tie_word_embeddings = False`).

    Returns what rounding to the weights' type took from each update. Raises StateError if the
    model has no adapters, TargetError for an embedding with max_norm, which cannot be merged.
    """
    require_adapters(model)
    layers = dict(lora_layers(model))
    problems = [
        f"{name} shortens its rows to max_norm before the update is added"
        for name, layer in layers.items()
        if isinstance(layer, Embedding) and layer.max_norm is not None
    ]
    if problems:
        raise TargetError("Some layers have no merged form:", problems)
    report = merge_report(model)
    folded = {storage_key(layer.base_weight) for layer in layers.values()}
    with torch.no_grad():
        for layer in layers.values():
            weight = merge(layer.base_weight, layer.delta_weight()).contiguous()
            restore(layer, weight)
    copies.forget(model)
    close_record(model)
    _untie(model, folded)
    return report


def _untie(model: nn.Module, folded: set[object]) -> None:
    """Let the configs say that a folded weight is no longer shared, if someone still holds it."""
    shared = any(storage_key(parameter) in folded for parameter in model.parameters())
    for module in model.modules() if shared else ():
        config = getattr(module, "config", None)
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False  # type: ignore[union-attr]
        if getattr(module, "all_tied_weights_keys", None):
            module.all_tied_weights_keys = {}  # type: ignore[assignment]
