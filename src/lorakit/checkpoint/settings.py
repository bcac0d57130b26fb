"""The settings of a config that follow from the adapters themselves."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from lorakit.config import Bias, LoraConfig
from lorakit.variants import AdapterSpec, ModuleAdapter
from lorakit.variants.parameter_site import parameters_of
from lorakit.variants.trainable_tokens import rows_of


def with_settings_of(config: LoraConfig, adapters: Mapping[str, ModuleAdapter]) -> LoraConfig:
    """`config` with the ranks, alphas, variant, dropout, slices and rows of these adapters."""
    rows = rows_of(adapters)
    others = {name: adapter for name, adapter in adapters.items() if name not in rows}
    specs = {name: adapter.spec for name, adapter in others.items()}
    sites = {name: adapter.site for name, adapter in others.items()}
    return config.replace(
        **_settings_of(specs),
        slices={n: x.slices for n, x in sites.items() if x is not None and x.slices is not None},
        trainable_token_indices=rows or None,
    )


def _settings_of(specs: Mapping[str, AdapterSpec]) -> dict[str, Any]:
    """Those of the first, and patterns for the others; without any the config's own stay."""
    if not specs:
        return {"rank_pattern": {}, "alpha_pattern": {}}
    first = next(iter(specs.values()))
    alpha = first.lora_alpha
    return {
        "r": first.r,
        "lora_alpha": alpha,
        "lora_dropout": max(spec.lora_dropout for spec in specs.values()),
        "use_rslora": first.use_rslora,
        "variant": first.variant,
        "rank_pattern": {_exactly(n): x.r for n, x in specs.items() if x.r != first.r},
        "alpha_pattern": {
            _exactly(n): x.lora_alpha for n, x in specs.items() if x.lora_alpha != alpha
        },
    }


def selecting(config: LoraConfig, adapters: Mapping[str, ModuleAdapter]) -> LoraConfig:
    """`config`, which selects exactly these, by whole names."""
    return config.replace(
        **targets_of(adapters),
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
    )


def targets_of(adapters: Mapping[str, ModuleAdapter]) -> dict[str, Any]:
    """The fields `target_modules` and `target_parameters` of a config, by whole names.

    Rows of tokens have a setting of their own, and an attention's output projection goes by the
    name of the attention.
    """
    sites = {name: adapters[name].site for name in modules_of(adapters)}
    names = [
        name.removesuffix(".out_proj") if site is not None and site.kind == "out_proj" else name
        for name, site in sites.items()
    ]
    return target_fields(list(dict.fromkeys(names)), parameters_of(adapters))


def target_fields(
    modules: Sequence[str] | str | None, parameters: Sequence[str] | None
) -> dict[str, Any]:
    """The fields for these; beside parameters no modules are none, and not the default ones."""
    return {
        "target_modules": modules or ([] if parameters else None),
        "target_parameters": parameters or None,
    }


def bias_of(owners: Collection[str], adapted: Iterable[str]) -> Bias:
    """The field `bias` that trains those of these modules, where `adapted` have adapters."""
    if not owners:
        return "none"
    return "lora_only" if set(owners) <= set(adapted) else "all"


def modules_of(adapters: Mapping[str, ModuleAdapter]) -> list[str]:
    """The names of those that `target_modules` selects."""
    apart = {*rows_of(adapters), *parameters_of(adapters)}
    return [name for name in adapters if name not in apart]


def _exactly(name: str) -> str:
    """A pattern's key for this module alone."""
    return f"^{re.escape(name)}"
