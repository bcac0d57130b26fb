"""From the contents of PEFT's files to an AdapterBundle; everything wrong in one error."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, type_problem
from lorakit.checkpoint.formats.peft.layout import (
    EMBEDDING_FACTORS,
    FACTORS,
    MAGNITUDE,
    OUT_PROJ,
    PREFIX,
    PeftFiles,
)
from lorakit.checkpoint.header import Check, type_problems
from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, FormatError
from lorakit.functional import conv, slices
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    Site,
    SlicedSite,
)

_ALL_FACTORS = FACTORS | EMBEDDING_FACTORS

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
        try:
            adapters[name] = _decode_adapter(name, factors, kind, config, modules.get(name, {}))
        except FormatError as error:
            problems.append(f"{name}: {error.headline}")
    problems += _magnitude_problems(pairs, modules, config.use_dora)
    if not pairs and not trained:
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
) -> tuple[dict[str, tuple[dict[str, Tensor], str]], dict[str, Tensor], list[str]]:
    """(A, B and m by name, kind of site) by module, other tensors by name, what fits neither."""
    found: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, str] = {}
    trained: dict[str, Tensor] = {}
    extra: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    problems = [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
    problems += [
        f"{key} is there twice, also as {PREFIX}{key}" for key in tensors if PREFIX + key in tensors
    ]
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        suffix = next((s for s in _ALL_FACTORS if name.endswith(s)), None)
        if suffix is not None:
            module = name.removesuffix(suffix)
            if suffix in EMBEDDING_FACTORS:
                kinds[module] = "embedding"
            elif module.endswith(OUT_PROJ):
                module = module.replace(OUT_PROJ, ".out_proj")
                kinds[module] = "out_proj"
            elif tensor.ndim > 2:
                kinds[module] = "conv"
            found.setdefault(module, {})[_ALL_FACTORS[suffix]] = tensor
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
    pairs = {module: (pair, kinds.get(module, "linear")) for module, pair in whole.items()}
    return pairs, trained, problems


def _decode_adapter(
    name: str,
    tensors: Mapping[str, Tensor],
    kind: str,
    config: LoraConfig,
    saved: Mapping[str, Any],
) -> ModuleAdapter:
    """One module's adapter in lorakit's shapes; raises FormatError if it contradicts the config."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    if a.ndim != b.ndim or a.ndim < 2 or 0 in (*a.shape, *b.shape):
        raise FormatError(
            f"A {tuple(a.shape)} and B {tuple(b.shape)} are no pair of matrices or kernels"
        )
    settings = name.removesuffix(".out_proj") if kind == "out_proj" else name
    spec = AdapterSpec(
        r=config.rank_of(settings),
        lora_alpha=config.alpha_of(settings),
        lora_dropout=config.lora_dropout,
        merge_weights=config.merge_weights,
        use_rslora=config.use_rslora,
        variant=config.variant,
    )
    groups = a.shape[0] // max(1, b.shape[1]) if kind == "conv" else 1
    if a.shape[0] != spec.r or b.shape[1] * groups != spec.r:
        raise FormatError(
            f"the config gives rank {spec.r}, the tensors are A {tuple(a.shape)} and "
            f"B {tuple(b.shape)}"
        )
    if saved:
        return _decode_slices(tensors, spec, saved)
    if kind == "conv":
        return _decode_conv(tensors, spec, groups)
    site = _SITES[kind](a.shape[1], b.shape[0])
    return ModuleAdapter(spec, tensors, site)


_SITES: dict[str, Callable[[int, int], Site]] = {
    "linear": LinearSite,
    "out_proj": OutProjSite,
    "embedding": EmbeddingSite,
}


def _decode_conv(tensors: Mapping[str, Tensor], spec: AdapterSpec, groups: int) -> ModuleAdapter:
    """PEFT's A of a grouped convolution has zeros between the groups."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    compact = conv.gather_groups(a, groups) if groups > 1 else a
    if compact is None:
        raise FormatError(
            "A mixes channels of different groups, so it is no update of a convolution with "
            f"groups={groups} and cannot be merged"
        )
    site = ConvSite((b.shape[0], *compact.shape[1:]), groups)
    return ModuleAdapter(spec, tensors, site).with_factors(compact, b)


def _decode_slices(
    tensors: Mapping[str, Tensor], spec: AdapterSpec, saved: Mapping[str, Any]
) -> ModuleAdapter:
    """The pairs of a fused weight's slices out of their common block form."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    try:
        parts = tuple((int(height), bool(adapted)) for height, adapted in saved["slices"])
        spec = replace(spec, r=int(saved["r"]), lora_alpha=saved["lora_alpha"])
        compact = slices.from_block(a, b, parts)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(f"what the header says of its slices is damaged ({error!r})") from error
    if compact is None:
        raise FormatError("B has numbers outside the slices that the header names")
    site = SlicedSite(a.shape[1], b.shape[0], slices=parts)
    return ModuleAdapter(spec, tensors, site).with_factors(*compact)


def _magnitude_problems(
    pairs: Mapping[str, tuple[Mapping[str, Tensor], str]],
    sliced: Container[str],
    use_dora: bool,
) -> Iterator[str]:
    """Magnitudes that the config says are not there, or the reverse."""
    for name, (tensors, _) in pairs.items():
        if (MAGNITUDE[1:] in tensors) != use_dora:
            there = "no" if use_dora else "a"
            yield (
                f"{name}: the config says use_dora={use_dora}, and there is {there} "
                "lora_magnitude_vector"
            )
        elif use_dora and name in sliced:
            yield f"{name}: it has slices, and a lora_magnitude_vector is for whole weights"
