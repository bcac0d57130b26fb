"""From an AdapterBundle to the contents of PEFT's files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, Kind, LowRank
from lorakit.checkpoint.formats.peft.layout import MAGNITUDE, OUT_PROJ, PREFIX, PeftFiles
from lorakit.checkpoint.formats.tensor_files import dtype_names, on_their_own
from lorakit.checkpoint.header import VERSION
from lorakit.config import alpha_for, scaling
from lorakit.errors import SaveError
from lorakit.functional import conv, slices


def encode(bundle: AdapterBundle) -> PeftFiles:
    """The bundle as PEFT's config and tensors; raises SaveError for what has no such form."""
    rslora = bundle.config.use_rslora
    if problems := unsupported(bundle):
        raise SaveError("PEFT's format cannot hold this adapter:", problems)
    portable = {name: _portable(pair, rslora) for name, pair in bundle.adapters.items()}
    portable |= _attention_partners(portable)
    tensors: dict[str, Tensor] = {}
    for name, pair in portable.items():
        a, b = (".lora_embedding_A", ".lora_embedding_B") if pair.kind == "embedding" else (
            ".lora_A.weight", ".lora_B.weight")  # fmt: skip
        key = PREFIX + _outer(name, pair)
        tensors[key + a], tensors[key + b] = pair.lora_A, pair.lora_B
        if pair.lora_magnitude_vector is not None:
            tensors[key + MAGNITUDE] = pair.lora_magnitude_vector
    for name, tensor in bundle.trained.items():
        module, _, leaf = name.rpartition(".")
        inner = f"{module}.base_layer.{leaf}" if module in portable else name
        tensors[PREFIX + inner] = tensor
    tensors = on_their_own({key: tensors[key] for key in sorted(tensors)})
    config = _encode_config(bundle, portable)
    return PeftFiles(config, tensors, _encode_header(bundle, config))


def unsupported(bundle: AdapterBundle) -> list[str]:
    """What of the bundle PEFT's files have no form for."""
    if bundle.method != "lora":
        return [f"its method is {bundle.method}, and these files are for lora"]
    return _without_form(bundle.adapters) + _of_two_kinds(bundle)


def _without_form(adapters: Mapping[str, LowRank]) -> list[str]:
    """What is wrong with the pairs that have no form in PEFT."""
    problems = [
        f"{name} is a grouped convolution in loralib's matrix form, which no other format can "
        "express; adapt a plain convolution with lorakit.inject instead"
        for name, pair in adapters.items()
        if pair.kind == "conv" and pair.lora_A.ndim == 2 and pair.slices is None
        if pair.groups != 1 or pair.weight_shape is None
    ]
    for name, pair in adapters.items():
        parent = name.removesuffix(".out_proj")
        other = adapters.get(parent)
        if pair.kind != "out_proj" or other is None:
            continue
        if (other.r, other.lora_alpha) != (pair.r, pair.lora_alpha):
            problems.append(
                f"{parent} has rank {other.r} and alpha {other.lora_alpha:g}, its out_proj "
                f"{pair.r} and {pair.lora_alpha:g}; PEFT's format has one of each for both"
            )
    return problems


def _of_two_kinds(bundle: AdapterBundle) -> list[str]:
    """The modules of which the config's `use_dora` is not true."""
    use_dora = bundle.config.use_dora
    return [
        f"{name} has use_dora={not use_dora} and others {use_dora}; PEFT's format has one for all"
        for name, pair in bundle.adapters.items()
        if (pair.lora_magnitude_vector is not None) != use_dora
    ]


def _portable(pair: LowRank, rslora: bool) -> LowRank:
    """The same update as a pair of the shapes that PEFT has, at the same scale."""
    assert pair.r is not None
    a, b = pair.lora_A, pair.lora_B
    if pair.slices is not None:
        a, b = slices.as_block(a, b, pair.slices)
    elif pair.kind == "conv" and a.ndim == 2:
        assert pair.weight_shape is not None
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
    return name.removesuffix(".out_proj") + OUT_PROJ


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
        "use_dora": config.use_dora,
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
    return {
        "version": VERSION,
        "config": config,
        "fingerprint": dict(bundle.fingerprint or {}),
        "base_class": bundle.base_class,
        "dtypes": dtype_names(bundle.tensors),
        "modules": restored,
        "num_labels": bundle.num_labels,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
