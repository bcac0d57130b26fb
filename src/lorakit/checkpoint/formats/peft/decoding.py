"""From the contents of PEFT's files to an AdapterBundle; everything wrong in one error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, Kind, LowRank, type_problem
from lorakit.checkpoint.formats.peft.layout import FACTORS, OUT_PROJ, PREFIX, PeftFiles
from lorakit.checkpoint.header import Check, type_problems
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError
from lorakit.functional import conv, slices

_READ = {
    "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "rank_pattern",
    "alpha_pattern", "modules_to_save", "bias", "use_rslora", "use_dora",
}  # fmt: skip
_IGNORED = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "loftq_config", "lora_ga_config", "lora_alpha",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "runtime_config", "task_type", "velora_config", "monteclora_config", "ensure_weight_tying",
    "layers_pattern",
}  # fmt: skip
"""Fields that say how an adapter was trained or found, not what it computes."""


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(name, str) for name in value)
    )


def _is_mapping(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else (0,)
    return all(part is None or isinstance(part, str) for part in parts)


_FLAG: Check = ("true or false", lambda value: type(value) is bool)
_TEXT: Check = ("a string", lambda value: isinstance(value, str))
_NAMES: Check = ("a string or a list of strings", _is_names)
_TYPES: dict[str, Check] = {
    "auto_mapping": ("a table of strings", _is_mapping),
    "base_model_name_or_path": _TEXT,
    "task_type": _TEXT,
    "bias": _TEXT,
    "use_rslora": _FLAG,
    "use_dora": _FLAG,
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "modules_to_save": _NAMES,
}
"""Types that `LoraConfig` does not look at, or that it does not have."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` with which PEFT writes to the base weights."""


_WRAPPERS = (
    re.compile(r"\.(modules_to_save|original_module)\."),
    re.compile(r"\.modules_to_save\.[^.]+\."),
)
"""Where PEFT keeps a trained module and its original; with bias="all" it writes both of them once
more, with or without the adapter's name, beside the module under its own name."""


def decode(files: PeftFiles, lora_alpha: float | None = None) -> AdapterBundle:
    """The bundle that the files hold.

    Raises FormatError that lists everything that is wrong: features that lorakit does not have,
    tensors without a partner, a config that says something else than the tensors.
    """
    config = _decode_config(files.config)
    problems = _header_problems(files)
    if lora_alpha is not None and lora_alpha != config.lora_alpha:
        problems.append(
            f"lora_alpha={lora_alpha:g} was passed, and the file says {config.lora_alpha:g}"
        )
    pairs, trained, key_problems = _decode_tensors(files.tensors)
    problems += key_problems
    modules = (files.header or {}).get("modules") or {}
    adapters = {}
    for name, (factors, kind) in pairs.items():
        pair, problem = _decode_pair(name, factors, kind, config, modules.get(name, {}))
        adapters[name] = pair
        problems += [problem] if problem else []
    problems += _magnitude_problems(adapters, config.use_dora)
    if not adapters and not trained:
        problems.append("it holds no tensors")
    if problems:
        raise FormatError("This adapter contradicts itself:", problems)
    header = files.header or {}
    mapping = files.config.get("auto_mapping") or {}
    named = mapping.get("parent_library"), mapping.get("base_model_class")
    base_class: Any = header.get("base_class") or named
    return AdapterBundle(
        config=config,
        adapters=adapters,
        trained=trained,
        base_model=files.config.get("base_model_name_or_path"),
        base_class=(base_class[0], base_class[1]) if all(base_class) else None,
        task_type=files.config.get("task_type"),
        fingerprint=header.get("fingerprint") or None,
        num_labels=header.get("num_labels"),
    )


def _decode_config(raw: Mapping[str, Any]) -> LoraConfig:
    if raw.get("peft_type") != "LORA":
        raise FormatError(f"peft_type is {raw.get('peft_type')!r}; lorakit reads LORA adapters.")
    problems = [
        f"{name}={value!r} is a feature that lorakit does not have"
        for name, value in raw.items()
        if name not in _READ | _IGNORED and value not in (None, False, {}, [], "")
    ]
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.startswith(_CHANGES_BASE):
        problems.append(
            f"init_lora_weights={init!r} changed the base weights, so A and B alone are another "
            "function; convert it with PEFT's path_initial_model_for_weight_conversion"
        )
    if raw.get("layers_pattern") and raw.get("layers_to_transform") is not None:
        problems.append(
            f"layers_pattern={raw['layers_pattern']!r} says which number layers_to_transform "
            "means, and lorakit always means the first one in a name"
        )
    problems += type_problems(raw, _TYPES)
    if type(raw.get("r")) is not int:
        problems.append(f"r is {raw.get('r')!r}; it must be a whole number")
    if problems:
        raise FormatError("adapter_config.json cannot be used:", problems)
    values = {name: raw[name] for name in _READ if raw.get(name) is not None}
    if not values.get("modules_to_save"):
        values.pop("modules_to_save", None)
    if not values.get("exclude_modules"):
        values.pop("exclude_modules", None)
    try:
        return LoraConfig(r=raw["r"], lora_alpha=raw.get("lora_alpha", 8), **values)
    except (ConfigError, TypeError) as error:
        raise FormatError(f"adapter_config.json cannot be used: {error}") from error


def _header_problems(files: PeftFiles) -> list[str]:
    """Settings of the function that adapter_config.json and the file's own header disagree on."""
    header = (files.header or {}).get("config")
    if header is None:
        return []
    return [
        f"adapter_config.json says {name}={files.config.get(name)!r}, the tensor file was saved "
        f"with {header.get(name)!r}"
        for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora")
        if files.config.get(name) != header.get(name)
    ]


def _decode_tensors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[dict[str, Tensor], Kind | None]], dict[str, Tensor], list[str]]:
    """(A, B and m by name, kind if known) by module, other tensors by name, what fits neither."""
    found: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, Kind] = {}
    trained: dict[str, Tensor] = {}
    extra: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    problems = [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
    problems += [
        f"{key} is there twice, also as {PREFIX}{key}" for key in tensors if PREFIX + key in tensors
    ]
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        suffix = next((s for s in FACTORS if name.endswith(s)), None)
        if suffix is not None:
            factor, kind = FACTORS[suffix]
            module = name.removesuffix(suffix)
            if module.endswith(OUT_PROJ):
                module, kind = module.replace(OUT_PROJ, ".out_proj"), "out_proj"
            kind = kind or ("conv" if tensor.ndim > 2 else None)
            found.setdefault(module, {})[factor] = tensor
            if kind:
                kinds[module] = kind
        elif "lora_" in name or ".token_adapter." in name:
            problems.append(f"{key} is of a kind that lorakit does not have")
        elif _WRAPPERS[0].search(name):
            extra[key] = [wrapper.sub(".", name) for wrapper in _WRAPPERS]
        else:
            trained[name.replace(".base_layer.", ".")] = tensor
            module = name.rpartition(".base_layer.")[0].replace(".base_layer.", ".")
            owners |= {module: key} if module else {}
    problems += [
        f"{key} belongs to an adapted module, and there is no pair for {module}"
        for module, key in owners.items()
        if module not in found and f"{module}.out_proj" not in found
    ]
    problems += [
        f"{key} is PEFT's second copy of a tensor that is not there under its own name"
        for key, plain in extra.items()
        if not trained.keys() & set(plain)
    ]
    whole = {module: pair for module, pair in found.items() if {"lora_A", "lora_B"} <= pair.keys()}
    problems += [
        f"{module} has {' and '.join(pair)} and not its partner"
        for module, pair in found.items()
        if module not in whole
    ]
    pairs = {module: (pair, kinds.get(module)) for module, pair in whole.items()}
    return pairs, trained, problems


def _decode_pair(
    name: str,
    factors: Mapping[str, Tensor],
    kind: Kind | None,
    config: LoraConfig,
    saved: Mapping[str, Any],
) -> tuple[LowRank, str | None]:
    """One module's pair in lorakit's shapes, and what contradicts the config."""
    a, b, m = factors["lora_A"], factors["lora_B"], factors.get("lora_magnitude_vector")
    if a.ndim != b.ndim or a.ndim < 2 or 0 in (*a.shape, *b.shape):
        return LowRank(a, b, config.lora_alpha, lora_magnitude_vector=m), (
            f"{name}: A {tuple(a.shape)} and B {tuple(b.shape)} are no pair of matrices or kernels"
        )
    settings = name.removesuffix(".out_proj") if kind == "out_proj" else name
    r, alpha = config.rank_of(settings), config.alpha_of(settings)
    groups = a.shape[0] // max(1, b.shape[1]) if a.ndim > 2 else 1
    pair = LowRank(a, b, alpha, a.shape[0], kind, groups=groups, lora_magnitude_vector=m)
    if a.shape[0] != r or b.shape[1] * groups != r:
        return pair, (
            f"{name}: the config gives rank {r}, the tensors are A {tuple(a.shape)} and "
            f"B {tuple(b.shape)}"
        )
    if saved:
        return _decode_slices(name, pair, saved)
    if groups > 1:
        compact_a = conv.gather_groups(a, groups)
        if compact_a is None:
            return pair, (
                f"{name}: A mixes channels of different groups, so it is no update of a "
                f"convolution with groups={groups} and cannot be merged"
            )
        return replace(pair, lora_A=compact_a), None
    return pair, None


def _magnitude_problems(adapters: Mapping[str, LowRank], use_dora: bool) -> Iterator[str]:
    """Magnitudes that the config says are not there, or the reverse."""
    for name, pair in adapters.items():
        if (pair.lora_magnitude_vector is not None) != use_dora:
            there = "no" if use_dora else "a"
            yield (
                f"{name}: the config says use_dora={use_dora}, and there is {there} "
                "lora_magnitude_vector"
            )
        elif use_dora and pair.slices:
            yield f"{name}: it has slices, and a lora_magnitude_vector is for whole weights"


def _decode_slices(
    name: str, pair: LowRank, saved: Mapping[str, Any]
) -> tuple[LowRank, str | None]:
    """The pairs of a fused weight's slices out of their common block form."""
    try:
        parts = tuple((int(height), bool(adapted)) for height, adapted in saved["slices"])
        r, alpha = int(saved["r"]), saved["lora_alpha"]
        compact = slices.from_block(pair.lora_A, pair.lora_B, parts)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        return pair, f"{name}: what the header says of its slices is damaged ({error!r})"
    if compact is None:
        return pair, f"{name}: B has numbers outside the slices that the header names"
    a, b = compact
    return replace(pair, lora_A=a, lora_B=b, lora_alpha=alpha, r=r, slices=parts), None
