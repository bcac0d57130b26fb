"""adapter_config.json of a bundle, in fields that every release of PEFT reads the same way.

A field at PEFT's default is left out: releases that do not know it refuse the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.peft.layout import DEFAULTS
from lorakit.config import Pattern, is_plain
from lorakit.variants import LinearSite, ModuleAdapter
from lorakit.variants.lora_bias import LoRABias

T = TypeVar("T", int, float)


def encode_config(
    bundle: AdapterBundle, adapters: Mapping[str, ModuleAdapter], kinds: Mapping[str, str]
) -> dict[str, Any]:
    """The fields of the config; `adapters` are in PEFT's shapes, `kinds` those of their sites."""
    config = bundle.config
    specs = {name: x.spec for name, x in adapters.items() if kinds[name] != "out_proj"}
    ranks = {name: spec.r for name, spec in specs.items()}
    alphas = {name: spec.lora_alpha for name, spec in specs.items()}
    r, alpha = _most_frequent(ranks, config.r), _most_frequent(alphas, config.lora_alpha)
    fields = {
        "auto_mapping": _auto_mapping(bundle),
        "base_model_name_or_path": bundle.base_model,
        "bias": config.bias,
        "exclude_modules": _plain(config.exclude_modules),
        "fan_in_fan_out": any(is_transposed(adapter) for adapter in adapters.values()),
        "inference_mode": True,
        "layers_pattern": _plain(config.layers_pattern),
        "layers_to_transform": _plain(config.layers_to_transform),
        "lora_alpha": alpha,
        "lora_dropout": config.lora_dropout,
        "lora_bias": config.variant == LoRABias.name,
        "modules_to_save": _plain(config.modules_to_save),
        "peft_type": "LORA",
        "r": r,
        "rank_pattern": _pattern(ranks, r),
        "alpha_pattern": _pattern(alphas, alpha),
        "target_modules": _plain(config.target_modules),
        "target_parameters": _plain(config.target_parameters),
        "task_type": bundle.task_type,
        "use_dora": config.use_dora,
        "use_rslora": config.use_rslora,
    }
    return {n: value for n, value in fields.items() if n not in DEFAULTS or value != DEFAULTS[n]}


def is_transposed(adapter: ModuleAdapter) -> bool:
    """Whether its weight is stored (in, out)."""
    return isinstance(adapter.site, LinearSite) and adapter.site.transposed


def _most_frequent(values: Mapping[str, T], default: T) -> T:
    return Counter(values.values()).most_common(1)[0][0] if values else default


def _pattern(values: Mapping[str, T], default: T) -> dict[str, T]:
    """A key for each module with another value than the default: its name.

    Releases before 0.14 look a full name up, later ones match it, and dots match any letter; where
    that would hit another module, the keys are regular expressions, which earlier ones ignore.
    """
    others = {name: value for name, value in values.items() if value != default}
    if all(map(is_plain, others)) and Pattern(others).of(list(values), default) == values:
        return others
    return {f"^{re.escape(name)}": value for name, value in others.items()}


def _auto_mapping(bundle: AdapterBundle) -> dict[str, str] | None:
    """The base's class, for a base without a task type."""
    if bundle.base_class is None or bundle.task_type is not None:
        return None
    library, name = bundle.base_class
    return {"base_model_class": name, "parent_library": library}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
