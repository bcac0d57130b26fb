"""From an AdapterBundle to the contents of PEFT's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats.peft import trained_names
from lorakit.checkpoint.formats.peft.config_encoding import encode_config
from lorakit.checkpoint.formats.peft.endings import Endings
from lorakit.checkpoint.formats.peft.layout import (
    EMBEDDING_FACTORS,
    FACTORS,
    OUT_PROJ,
    PREFIX,
    TRANSPOSED,
    PeftFiles,
)
from lorakit.checkpoint.formats.peft.parameters import file_names, unordered
from lorakit.checkpoint.formats.peft.token_rows import FIELD, encode_rows, outer_names, split_rows
from lorakit.checkpoint.formats.tensor_files import dtype_names, for_safetensors
from lorakit.checkpoint.header import VERSION
from lorakit.config import LoraConfig, alpha_for
from lorakit.errors import SaveError
from lorakit.functional import conv, slices
from lorakit.variants import (
    ConvSite,
    InProjSite,
    ModuleAdapter,
    OutProjSite,
    ParameterSite,
    Site,
)


def encode(bundle: AdapterBundle) -> PeftFiles:
    """The bundle as PEFT's config and tensors; raises SaveError for what PEFT does not support."""
    if problems := unsupported(bundle):
        raise SaveError("This adapter cannot be saved in PEFT's format:", problems)
    rows, others = split_rows(bundle.adapters)
    portable = {name: _portable(adapter) for name, adapter in others.items()}
    portable |= _attention_partners(portable)
    kinds = {name: _kind(adapter) for name, adapter in portable.items()}
    outer = _outer_names(portable) | file_names(portable) | outer_names(rows)
    tensors, listed = encode_rows(rows)
    for name, adapter in portable.items():
        # An embedding's are in place of A's and B's.
        known = FACTORS | (EMBEDDING_FACTORS if kinds[name] == "embedding" else {})
        suffixes = {leaf: suffix for suffix, leaf in known.items()}
        for leaf, tensor in adapter.tensors.items():
            tensors[PREFIX + outer[name] + suffixes[leaf]] = tensor
    for name, tensor in bundle.trained.items():
        tensors[PREFIX + trained_names.encoded(name, outer)] = tensor
    tensors = for_safetensors({key: tensors[key] for key in sorted(tensors)})
    config = encode_config(bundle, portable, kinds) | ({FIELD: listed} if listed else {})
    return PeftFiles(config, tensors, _encode_header(bundle, config))


def unsupported(bundle: AdapterBundle) -> list[str]:
    """What of the bundle PEFT's files cannot store."""
    if bundle.method != "lora":
        return [f"its method is {bundle.method}; PEFT's format only supports lora"]
    _, others = split_rows(bundle.adapters)
    return [
        *_unsupported_adapters(others),
        *unordered(others),
        *_mixed_settings(others, bundle.config),
        *_misread_names(bundle, others),
    ]


def has_pefts_variants(bundle: AdapterBundle) -> bool:
    """Whether PEFT supports the variants of all adapters."""
    _, others = split_rows(bundle.adapters)
    return all(adapter.spec.variant in _SAID for adapter in others.values())


def _unsupported_adapters(adapters: Mapping[str, ModuleAdapter]) -> Iterator[str]:
    """Why PEFT cannot store an adapter, for each that it cannot."""
    for name, adapter in adapters.items():
        site = adapter.site
        if site is None:
            yield (
                f"{name}: the type of its layer is unknown; load the adapter onto its model and "
                "save it from there"
            )
        elif adapter.spec.variant not in _SAID:
            yield f"{name} has variant {adapter.spec.variant}, which PEFT does not support"
        elif isinstance(site, ConvSite) and site.square and site.groups != 1:
            yield (
                f"{name} is a grouped convolution in loralib's matrix form, which PEFT's format "
                "does not support; adapt an nn.Conv module with lorakit.inject instead"
            )
        elif site.kind == "out_proj" and (parent := name.removesuffix(".out_proj")) in adapters:
            here, other = adapter.spec, adapters[parent].spec
            if (other.r, other.lora_alpha) != (here.r, here.lora_alpha):
                yield (
                    f"{parent} has r={other.r}, lora_alpha={other.lora_alpha:g}, but its out_proj "
                    f"has r={here.r}, lora_alpha={here.lora_alpha:g}; PEFT's format stores one "
                    "value for both"
                )


def _misread_names(bundle: AdapterBundle, adapters: Mapping[str, ModuleAdapter]) -> Iterator[str]:
    """Trained tensors that PEFT or `decode` would take for something else."""
    outer = _outer_names(adapters) | file_names(adapters)
    saved = Endings(bundle.config.modules_to_save or ())
    for name in bundle.trained:
        if trained_names.misread(name, outer, saved):
            yield (
                f"{name} has a name that means something else in PEFT's files; rename its module, "
                'or write lorakit\'s own file: lorakit.checkpoint.write(..., format="lorakit")'
            )


_SAID: dict[str, dict[str, bool]] = {
    "lora": {"use_dora": False, "lora_bias": False},
    "dora": {"use_dora": True, "lora_bias": False},
    "lora_bias": {"use_dora": False, "lora_bias": True},
}
"""The variants that PEFT has, and what its config says of them."""


def _mixed_settings(adapters: Mapping[str, ModuleAdapter], config: LoraConfig) -> Iterator[str]:
    """Modules that differ from the config in the variant or in `use_rslora`."""
    common = {**_SAID.get(config.variant, {}), "use_rslora": config.use_rslora}
    for name, adapter in adapters.items():
        said = {**_SAID.get(adapter.spec.variant, {}), "use_rslora": adapter.spec.use_rslora}
        for field, own in said.items():
            others = common.get(field, own)
            if own != others:
                yield (
                    f"{name} has {field}={own}, but others have {field}={others}; PEFT's format "
                    "stores one value for all modules"
                )


def _portable(adapter: ModuleAdapter) -> ModuleAdapter:
    """The same update in PEFT's shapes, with the same scaling."""
    site, spec = adapter.site, adapter.spec
    if isinstance(site, ParameterSite):
        return adapter
    a, b = adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    if site is not None and site.slices is not None:
        a, b = slices.as_block(a, b, site.slices)
    elif isinstance(site, ConvSite) and site.square:
        a, b = conv.square_as_kernel_form(a, b, torch.Size(site.shape))
    elif isinstance(site, ConvSite) and site.groups > 1:
        a = conv.spread_groups(a, site.groups)
    rank = a.shape[0]
    if rank != spec.r:
        spec = replace(spec, r=rank, lora_alpha=alpha_for(spec.scaling, rank, spec.use_rslora))
    return adapter.with_factors(a, b, spec=spec)


def _attention_partners(portable: Mapping[str, ModuleAdapter]) -> dict[str, ModuleAdapter]:
    """PEFT adapts both projections of an attention or none: zeros for a missing one."""
    partners = {}
    for name, adapter in portable.items():
        width = adapter.tensors["lora_A"].shape[1]
        if _kind(adapter) == "attention" and f"{name}.out_proj" not in portable:
            partners[f"{name}.out_proj"] = _zeros(adapter, OutProjSite(width, width))
        parent = name.removesuffix(".out_proj")
        if _kind(adapter) == "out_proj" and parent not in portable:
            partners[parent] = _zeros(adapter, InProjSite(width, 3 * width))
    return partners


def _zeros(adapter: ModuleAdapter, site: Site) -> ModuleAdapter:
    a, b = (adapter.tensors["lora_A"].new_zeros(s) for s in site.factor_shapes(adapter.spec.r))
    return adapter.with_factors(a, b, site=site)


def _kind(adapter: ModuleAdapter) -> str:
    assert adapter.site is not None
    return adapter.site.kind


def _outer_names(adapters: Mapping[str, ModuleAdapter]) -> dict[str, str]:
    """How PEFT's files name the adapted modules."""
    return {
        name: name.removesuffix(".out_proj") + OUT_PROJ
        if adapter.site is not None and adapter.site.kind == "out_proj"
        else name
        for name, adapter in adapters.items()
    }


def _encode_header(bundle: AdapterBundle, config: dict[str, Any]) -> dict[str, Any]:
    restored = {
        name: {"r": x.spec.r, "lora_alpha": x.spec.lora_alpha, "slices": x.site.slices}
        for name, x in bundle.adapters.items()
        if x.site is not None and x.site.slices is not None
    }
    turned = [n for n, x in bundle.adapters.items() if getattr(x.site, "transposed", False)]
    return {
        **({TRANSPOSED: turned} if turned else {}),
        "version": VERSION,
        "config": config,
        "fingerprint": dict(bundle.fingerprint or {}),
        "base_class": bundle.base_class,
        "dtypes": dtype_names(bundle.tensors),
        "modules": restored,
        "num_labels": bundle.num_labels,
    }
