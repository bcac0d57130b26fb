"""The bundle of a sum: its adapters, with what the addends say of base, head and modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lorakit.algebra.addends import Addend
from lorakit.algebra.bases import fingerprinted
from lorakit.algebra.outcome import Approximation, Deviation, Outcome, require_finite
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.settings import targets_of, with_settings_of
from lorakit.config import Bias, LoraConfig, alpha_for
from lorakit.variants import ModuleAdapter


def assemble(
    addends: Sequence[Addend],
    computed: Mapping[str, Approximation],
    kept: Mapping[str, ModuleAdapter],
) -> Outcome:
    """The adapter of what was computed and what stays as it is, by module.

    Raises MismatchError for what was computed and is not finite.
    """
    require_finite(computed)
    adapters = {name: part.adapter for name, part in computed.items()}
    adapters |= {name: _without_rslora(adapter) for name, adapter in kept.items()}
    bundles = [addend.bundle for addend in addends]
    bundle = AdapterBundle(
        adapters=adapters,
        trained={name: tensor for b in bundles for name, tensor in b.trained.items()},
        base_model=next((b.base_model for b in bundles if b.base_model), None),
        unknown_settings={name: x for b in bundles for name, x in b.unknown_settings.items()},
        **_facts(bundles),
    )
    whole = [b for b in bundles if fingerprinted(b) == fingerprinted(bundle)]
    config = with_settings_of(_config(bundles, whole, adapters), adapters)
    fingerprint = whole[0].fingerprint if whole else None
    return Outcome(replace(bundle, config=config, fingerprint=fingerprint), Deviation.of(computed))


def _without_rslora(adapter: ModuleAdapter) -> ModuleAdapter:
    """The same scale as alpha / r: a config has one way for all modules."""
    spec = adapter.spec
    if not spec.use_rslora:
        return adapter
    alpha = alpha_for(spec.scaling, spec.r, use_rslora=False)
    return replace(adapter, spec=replace(spec, use_rslora=False, lora_alpha=alpha))


def _facts(bundles: Sequence[AdapterBundle]) -> dict[str, Any]:
    """What the adapter with the head says of its model, else what all say."""
    heads = [bundle for bundle in bundles if bundle.trained]
    facts = {}
    for name in ("base_class", "task_type", "num_labels"):
        values = {getattr(bundle, name) for bundle in heads or bundles}
        facts[name] = values.pop() if len(values) == 1 else None
    return facts


def _config(
    bundles: Sequence[AdapterBundle],
    whole: Sequence[AdapterBundle],
    adapters: Mapping[str, ModuleAdapter],
) -> LoraConfig:
    """Selects the modules as one of `whole` does, which adapt all of them, else by their names."""
    stated = [bundle.config for bundle in whole if bundle.targets_stated]
    config = stated[0] if stated else LoraConfig(**targets_of(adapters))
    saved = dict.fromkeys(x for b in bundles for x in b.config.modules_to_save or ())
    return config.replace(
        modules_to_save=list(saved) or None,
        bias=max((bundle.config.bias for bundle in bundles), key=_BREADTH.index),
    )


_BREADTH: tuple[Bias, ...] = ("none", "lora_only", "all")
