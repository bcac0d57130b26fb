"""From an adapter of a set to a bundle, as `save_adapter` would write it of a model of its own."""

from __future__ import annotations

from torch import nn

from lorakit.adapters.entry import Parts
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import fingerprint
from lorakit.config import LoraConfig
from lorakit.injection.selection.naming import ending_in_any
from lorakit.injection.selection.token_rows import tied_to_embeddings
from lorakit.injection.transfer.base_facts import base_facts
from lorakit.injection.transfer.saving import config_of
from lorakit.layers.conversion import base_weight
from lorakit.variants.trainable_tokens import rows_of


def bundle_of_parts(model: nn.Module, parts: Parts, config: LoraConfig) -> AdapterBundle:
    """The adapter's config and tensors; these are the set's own, not copies."""
    names = [name for name, _ in model.named_modules()]
    found = {name: parts[name] for name in names if name in parts}
    adapters = {name: e.adapter for name, e in found.items() if e.adapter is not None}
    rows = rows_of(adapters)
    for tied in tied_to_embeddings(model, rows):
        adapters.pop(tied, None)
    trained = {
        f"{name}.{leaf}": tensor.detach()
        for name, entry in found.items()
        for leaf, tensor in entry.own.items()
    }
    saved = ending_in_any(names, config.modules_to_save or ())
    weights = {n: base_weight(model.get_submodule(n)).detach() for n in adapters if n not in rows}
    return AdapterBundle(
        config=config_of(model, config, adapters, saved, trained),
        adapters=adapters,
        trained=trained,
        fingerprint=fingerprint(weights),
        **base_facts(model, saved),
    )
