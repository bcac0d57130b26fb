"""adapter_config.json as a LoraConfig: fields that are read, ignored, not supported, or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.checkpoint.formats.peft.layout import CLASS_FIELDS
from lorakit.checkpoint.header import Check, type_problems
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError
from lorakit.variants.lora_bias import LoRABias

_READ = {
    "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "rank_pattern",
    "layers_pattern", "alpha_pattern", "modules_to_save", "bias", "use_rslora", "use_dora",
    "trainable_token_indices", "target_parameters", "lora_bias",
}  # fmt: skip
_IGNORED = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "loftq_config", "lora_ga_config", "lora_alpha",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "runtime_config", "task_type", "velora_config", "monteclora_config", "ensure_weight_tying",
}  # fmt: skip
"""Fields about how an adapter was trained, not what it computes."""
_UNSUPPORTED = {
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication",
    "megatron_config", "use_bdlora", "use_qalora",
}  # fmt: skip
"""Fields of PEFT about what an adapter computes, which lorakit does not compute."""
_OFF: tuple[Any, ...] = (None, False, {}, [], "")
_LISTS = (
    "exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save",
    "trainable_token_indices", "target_parameters",
)  # fmt: skip
"""Fields for which PEFT takes an empty list as none."""


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    )


def _names_a_class(value: Any) -> bool:
    parts = map(value.get, CLASS_FIELDS) if isinstance(value, dict) else (0,)
    return all(part is None or isinstance(part, str) for part in parts)


_FLAG: Check = ("true or false", lambda value: type(value) is bool)
_TEXT: Check = ("a string", lambda value: isinstance(value, str))
_NAMES: Check = ("a string or a list of strings", _is_names)
_TYPES: dict[str, Check] = {
    "auto_mapping": (f"a dict with strings as {' and '.join(CLASS_FIELDS)}", _names_a_class),
    "base_model_name_or_path": _TEXT,
    "task_type": _TEXT,
    "bias": _TEXT,
    "use_rslora": _FLAG,
    "use_dora": _FLAG,
    "lora_bias": _FLAG,
    "fan_in_fan_out": _FLAG,
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "modules_to_save": _NAMES,
    "target_parameters": _NAMES,
}
"""Types of fields that `LoraConfig` does not check or does not have."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` with which PEFT writes to the base weights."""


def unknown_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of another tool or a newer PEFT that are set, and could mean another function."""
    known = _READ | _IGNORED | _UNSUPPORTED
    return {n: value for n, value in raw.items() if n not in known and value not in _OFF}


def decode_config(raw: Mapping[str, Any]) -> LoraConfig:
    """The config; raises FormatError that lists what is invalid and what is not supported."""
    if raw.get("peft_type") != "LORA":
        raise FormatError(f"peft_type is {raw.get('peft_type')!r}; only LORA is supported.")
    problems = [
        f"{name}={value!r} is not supported"
        for name, value in raw.items()
        if name in _UNSUPPORTED and value not in _OFF
    ]
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.startswith(_CHANGES_BASE):
        problems.append(
            f"init_lora_weights={init!r} changes the base weights, so the adapter does not fit the "
            "original base; convert it to plain LoRA with PEFT: "
            "save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    problems += type_problems(raw, _TYPES)
    if type(raw.get("r")) is not int:
        problems.append(f"r is {raw.get('r')!r}; it must be an integer")
    if problems:
        raise FormatError("Invalid adapter_config.json:", problems)
    values = {name: raw[name] for name in _READ if raw.get(name) is not None}
    values = {n: value for n, value in values.items() if n not in _LISTS or value not in ([], "")}
    if "layers_to_transform" not in values:
        values.pop("layers_pattern", None)
    if values.pop("lora_bias", False):
        values["variant"] = LoRABias.name
    try:
        return LoraConfig(r=raw["r"], lora_alpha=raw.get("lora_alpha", 8), **values)
    except (ConfigError, TypeError) as error:
        raise FormatError(f"Invalid adapter_config.json: {error}") from error
