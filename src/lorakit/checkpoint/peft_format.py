"""PEFT's directory: adapter_config.json and adapter_model.safetensors.

Tensor names are `base_model.model.` + module + suffix:

    linear, attention   .lora_A.weight (R, I)             .lora_B.weight (O, R)
    embedding           .lora_embedding_A (R, V)          .lora_embedding_B (O, R)
    convolution         .lora_A.weight (R, I, *kernel)    .lora_B.weight (O, R/G, 1, ...)
    bias of an adapted module                             .base_layer.bias
    attention's out_proj                                  .base_layer.out_proj + as linear
    what is trained in full                               its own name

Fused slices are written as one LoRA of the summed rank with a block-shaped B, a grouped
convolution's A with zeros between the groups, and loralib's matrix form of a convolution in kernel
form, so every reader computes the same function. What is needed to read those back as they were,
the base's fingerprint and the config itself stand in the safetensors header under `lorakit`; PEFT
ignores that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, Kind, LowRank
from lorakit.config import LoraConfig, alpha_for, scaling
from lorakit.errors import ConfigError, FormatError, SaveError
from lorakit.functional import conv, slices

PREFIX = "base_model.model."
HEADER = "lorakit"
HEADER_VERSION = 1

_OUT_PROJ = ".base_layer.out_proj"
_FACTORS: dict[str, tuple[str, Kind | None]] = {
    ".lora_A.weight": ("lora_A", None),
    ".lora_B.weight": ("lora_B", None),
    ".lora_embedding_A": ("lora_A", "embedding"),
    ".lora_embedding_B": ("lora_B", "embedding"),
}
_READ = {
    "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "rank_pattern",
    "alpha_pattern", "modules_to_save", "bias", "use_rslora",
}  # fmt: skip
_IGNORED = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "fan_in_fan_out",
    "inference_mode", "init_lora_weights", "loftq_config", "lora_ga_config", "lora_alpha",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r", "revision",
    "runtime_config", "task_type", "velora_config", "monteclora_config", "ensure_weight_tying",
    "layers_pattern",
}  # fmt: skip
"""Fields that say how an adapter was trained or found, not what it computes."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights` with which PEFT writes to the base weights."""


@dataclass(frozen=True)
class PeftFiles:
    """The contents of the two files."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    header: dict[str, Any] | None


# --- writing


def encode(bundle: AdapterBundle) -> PeftFiles:
    """The bundle as PEFT's config and tensors; raises SaveError for what has no such form."""
    rslora = bundle.config.use_rslora
    portable = {name: _portable(name, pair, rslora) for name, pair in bundle.adapters.items()}
    portable |= _attention_partners(portable)
    tensors: dict[str, Tensor] = {}
    for name, pair in portable.items():
        a, b = (".lora_embedding_A", ".lora_embedding_B") if pair.kind == "embedding" else (
            ".lora_A.weight", ".lora_B.weight")  # fmt: skip
        key = PREFIX + _outer(name, pair)
        tensors[key + a], tensors[key + b] = pair.lora_A, pair.lora_B
    for name, tensor in bundle.trained.items():
        module, _, leaf = name.rpartition(".")
        inner = f"{module}.base_layer.{leaf}" if module in portable else name
        tensors[PREFIX + inner] = tensor
    tensors = _on_their_own({key: tensors[key] for key in sorted(tensors)})
    config = _encode_config(bundle, portable)
    return PeftFiles(config, tensors, _encode_header(bundle, config))


def _on_their_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous on the CPU, each in memory of its own, as safetensors wants tied ones too."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        alone = tensor.detach().cpu().contiguous()
        if alone.untyped_storage().data_ptr() in seen:
            alone = alone.clone()
        seen.add(alone.untyped_storage().data_ptr())
        result[key] = alone
    return result


def _portable(name: str, pair: LowRank, rslora: bool) -> LowRank:
    """The same update as a pair of the shapes that PEFT has, at the same scale."""
    assert pair.r is not None
    a, b = pair.lora_A, pair.lora_B
    if pair.slices is not None:
        a, b = slices.as_block(a, b, pair.slices)
    elif pair.kind == "conv" and a.ndim == 2:
        if pair.groups != 1 or pair.weight_shape is None:
            raise SaveError(
                f"{name} is a grouped convolution in loralib's matrix form, which no other format "
                "can express. Adapt a plain convolution with lorakit.inject instead."
            )
        a, b = conv.square_as_kernel_form(a, b, torch.Size(pair.weight_shape))
    elif pair.kind == "conv" and pair.groups > 1:
        a = conv.spread_groups(a, pair.groups)
    alpha, rank = pair.lora_alpha, a.shape[0]
    if rank != pair.r:
        alpha = alpha_for(scaling(pair.r, alpha, rslora), rank, rslora)
    return replace(pair, lora_A=a, lora_B=b, r=rank, lora_alpha=alpha)


def _attention_partners(portable: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """PEFT adapts both projections of an attention or none: a zero pair for a missing one."""
    partners = {}
    for name, pair in portable.items():
        width = pair.lora_A.shape[1]
        if pair.kind == "attention" and f"{name}.out_proj" not in portable:
            partners[f"{name}.out_proj"] = _zero_pair(pair, "out_proj", width)
        parent = name.removesuffix(".out_proj")
        if pair.kind == "out_proj" and parent not in portable:
            partners[parent] = _zero_pair(pair, "attention", 3 * width)
        if pair.kind == "out_proj" and parent in portable:
            other = portable[parent]
            if (other.r, other.lora_alpha) != (pair.r, pair.lora_alpha):
                raise SaveError(
                    f"{parent} has rank {other.r} and alpha {other.lora_alpha:g}, its out_proj "
                    f"{pair.r} and {pair.lora_alpha:g}; PEFT's format has one of each for both."
                )
    return partners


def _zero_pair(pair: LowRank, kind: Kind, height: int) -> LowRank:
    r, width = pair.lora_A.shape
    return replace(
        pair,
        kind=kind,
        lora_A=pair.lora_A.new_zeros(r, width),
        lora_B=pair.lora_B.new_zeros(height, r),
    )


def _outer(name: str, pair: LowRank) -> str:
    if pair.kind != "out_proj":
        return name
    return name.removesuffix(".out_proj") + _OUT_PROJ


def _encode_config(bundle: AdapterBundle, portable: Mapping[str, LowRank]) -> dict[str, Any]:
    config = bundle.config
    named = {name: pair for name, pair in portable.items() if pair.kind != "out_proj"}
    ranks = {name: pair.lora_A.shape[0] for name, pair in named.items()}
    alphas = {name: pair.lora_alpha for name, pair in named.items()}
    r = Counter(ranks.values()).most_common(1)[0][0] if ranks else config.r
    alpha = Counter(alphas.values()).most_common(1)[0][0] if alphas else config.lora_alpha
    auto_mapping = None
    if bundle.base_class is not None and bundle.task_type is None:
        library, name = bundle.base_class
        auto_mapping = {"base_model_class": name, "parent_library": library}
    return {
        "auto_mapping": auto_mapping,
        "base_model_name_or_path": bundle.base_model,
        "bias": config.bias,
        "exclude_modules": _plain(config.exclude_modules),
        "fan_in_fan_out": any(pair.fan_in_fan_out for pair in portable.values()),
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": _plain(config.layers_to_transform),
        "lora_alpha": alpha,
        "lora_dropout": config.lora_dropout,
        "modules_to_save": _plain(config.modules_to_save),
        "peft_type": "LORA",
        "r": r,
        "rank_pattern": {f"^{re.escape(n)}": v for n, v in ranks.items() if v != r},
        "alpha_pattern": {f"^{re.escape(n)}": v for n, v in alphas.items() if v != alpha},
        "target_modules": _plain(config.target_modules),
        "task_type": bundle.task_type,
        "use_rslora": config.use_rslora,
    }


def _encode_header(bundle: AdapterBundle, config: dict[str, Any]) -> dict[str, Any]:
    restored = {
        name: {
            "r": pair.r,
            "lora_alpha": pair.lora_alpha,
            "slices": pair.slices,
        }
        for name, pair in bundle.adapters.items()
        if pair.slices
    }
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in bundle.tensors.values()})
    return {
        "version": HEADER_VERSION,
        "config": config,
        "fingerprint": dict(bundle.fingerprint or {}),
        "base_class": bundle.base_class,
        "dtypes": dtypes,
        "modules": restored,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# --- reading


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
    modules = (files.header or {}).get("modules", {})
    adapters = {}
    for name, (a, b, kind) in pairs.items():
        pair, problem = _decode_pair(name, a, b, kind, config, modules.get(name, {}))
        adapters[name] = pair
        problems += [problem] if problem else []
    if not adapters and not trained:
        problems.append("it holds no tensors")
    if problems:
        raise FormatError("This adapter contradicts itself:", problems)
    mapping = files.config.get("auto_mapping") or {}
    named = mapping.get("parent_library"), mapping.get("base_model_class")
    base_class: Any = (files.header or {}).get("base_class") or named
    return AdapterBundle(
        config=config,
        adapters=adapters,
        trained=trained,
        base_model=files.config.get("base_model_name_or_path"),
        base_class=(base_class[0], base_class[1]) if all(base_class) else None,
        task_type=files.config.get("task_type"),
        fingerprint=(files.header or {}).get("fingerprint") or None,
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
        for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")
        if files.config.get(name) != header.get(name)
    ]


def _decode_tensors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[Tensor, Tensor, Kind | None]], dict[str, Tensor], list[str]]:
    """(A, B, kind if known) by module, other tensors by name, and what fits neither."""
    found: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, Kind] = {}
    trained: dict[str, Tensor] = {}
    problems = []
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        suffix = next((s for s in _FACTORS if name.endswith(s)), None)
        if suffix is not None:
            factor, kind = _FACTORS[suffix]
            module = name.removesuffix(suffix)
            if module.endswith(_OUT_PROJ):
                module, kind = module.replace(_OUT_PROJ, ".out_proj"), "out_proj"
            kind = kind or ("conv" if tensor.ndim > 2 else None)
            found.setdefault(module, {})[factor] = tensor
            if kind:
                kinds[module] = kind
        elif "lora_" in name or ".token_adapter." in name:
            problems.append(f"{key} is of a kind that lorakit does not have")
        elif ".modules_to_save." not in name and ".original_module." not in name:
            trained[name.replace(".base_layer.", ".")] = tensor
    for module, pair in found.items():
        if len(pair) == 1:
            problems.append(f"{module} has {next(iter(pair))} and not its partner")
    pairs = {
        module: (pair["lora_A"], pair["lora_B"], kinds.get(module))
        for module, pair in found.items()
        if len(pair) == 2
    }
    return pairs, trained, problems


def _decode_pair(
    name: str, a: Tensor, b: Tensor, kind: Kind | None, config: LoraConfig, saved: Mapping[str, Any]
) -> tuple[LowRank, str | None]:
    """One module's pair in lorakit's shapes, and what contradicts the config."""
    if a.ndim != b.ndim or a.ndim < 2 or 0 in (*a.shape, *b.shape):
        return LowRank(a, b, config.lora_alpha), (
            f"{name}: A {tuple(a.shape)} and B {tuple(b.shape)} are no pair of matrices or kernels"
        )
    settings = name.removesuffix(".out_proj") if kind == "out_proj" else name
    r, alpha = config.rank_of(settings), config.alpha_of(settings)
    groups = a.shape[0] // max(1, b.shape[1]) if a.ndim > 2 else 1
    pair = LowRank(a, b, alpha, r=a.shape[0], kind=kind, groups=groups)
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


def header_text(header: Mapping[str, Any]) -> dict[str, str]:
    """The safetensors metadata."""
    return {"format": "pt", HEADER: json.dumps(header, sort_keys=True)}


def parse_header(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """lorakit's part of the safetensors metadata, if there is one."""
    text = (metadata or {}).get(HEADER)
    if text is None:
        return None
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"The file's lorakit header is damaged: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
        raise FormatError("The file's lorakit header is damaged: it holds no config.")
    if header.get("version") != HEADER_VERSION:
        raise FormatError(
            f"The file's lorakit header has version {header.get('version')!r}; this lorakit reads "
            f"version {HEADER_VERSION}. Update lorakit."
        )
    return dict(header)
