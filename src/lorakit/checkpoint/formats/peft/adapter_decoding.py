"""From one module's tensors in PEFT's files to an adapter in lorakit's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lorakit.errors import FormatError
from lorakit.functional import conv, slices
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    ParameterSite,
    Site,
    SlicedSite,
)


def named_in_config(module: str, kind: str) -> str:
    """The name by which the config knows a module: an attention for its out_proj too."""
    return module.removesuffix(".out_proj") if kind == "out_proj" else module


def decode_adapter(
    tensors: Mapping[str, Tensor],
    kind: str,
    spec: AdapterSpec,
    saved: Mapping[str, Any],
    transposed: bool = False,
) -> ModuleAdapter:
    """One module's adapter in lorakit's shapes; raises FormatError if it contradicts the config.

    `transposed` says how the weight of a linear layer or of experts is stored.
    """
    a, b = tensors["lora_A"], tensors["lora_B"]
    if a.ndim != b.ndim or a.ndim < 2 or 0 in (*a.shape, *b.shape):
        raise FormatError(
            "lora_A and lora_B must both be matrices or both be convolution kernels, got shapes "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    if kind == "parameter":
        return _decode_parameter(tensors, spec, transposed)
    groups = a.shape[0] // max(1, b.shape[1]) if kind == "conv" else 1
    if a.shape[0] != spec.r or b.shape[1] * groups != spec.r:
        raise FormatError(
            f"size mismatch: the config says rank {spec.r}, got lora_A {tuple(a.shape)} and "
            f"lora_B {tuple(b.shape)}"
        )
    if saved:
        return _decode_slices(tensors, spec, saved, transposed)
    if kind == "conv":
        return _decode_conv(tensors, spec, groups)
    site = _SITES[kind](a.shape[1], b.shape[0])
    if isinstance(site, LinearSite):
        site = replace(site, transposed=transposed)
    return ModuleAdapter(spec, tensors, site)


_SITES: dict[str, Callable[[int, int], Site]] = {
    "linear": LinearSite,
    "out_proj": OutProjSite,
    "embedding": EmbeddingSite,
}


def _decode_parameter(
    tensors: Mapping[str, Tensor], spec: AdapterSpec, transposed: bool
) -> ModuleAdapter:
    """A pair for each expert, whose number is that of the rows over the rank."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    experts, rest = divmod(a.shape[0], spec.r)
    if rest or a.ndim != 2 or b.shape[1] != a.shape[0]:
        raise FormatError(
            f"size mismatch: the config says rank {spec.r} for each expert, got lora_A "
            f"{tuple(a.shape)} and lora_B {tuple(b.shape)}"
        )
    site = ParameterSite(a.shape[1], b.shape[0], experts if experts > 1 else 0, transposed)
    return ModuleAdapter(spec, tensors, site)


def _decode_conv(tensors: Mapping[str, Tensor], spec: AdapterSpec, groups: int) -> ModuleAdapter:
    """PEFT's A of a grouped convolution has zeros between the groups."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    compact = conv.gather_groups(a, groups) if groups > 1 else a
    if compact is None:
        raise FormatError(
            "lora_A mixes channels of different groups, so it is not an update of a convolution "
            f"with groups={groups} and cannot be merged"
        )
    site = ConvSite((b.shape[0], *compact.shape[1:]), groups)
    return ModuleAdapter(spec, tensors, site).with_factors(compact, b)


def _decode_slices(
    tensors: Mapping[str, Tensor], spec: AdapterSpec, saved: Mapping[str, Any], transposed: bool
) -> ModuleAdapter:
    """A and B of the slices of a fused weight, from their common block form."""
    a, b = tensors["lora_A"], tensors["lora_B"]
    try:
        parts = tuple((int(height), bool(adapted)) for height, adapted in saved["slices"])
        spec = replace(spec, r=int(saved["r"]), lora_alpha=saved["lora_alpha"])
        compact = slices.from_block(a, b, parts)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(f"its slices in the header are invalid ({error!r})") from error
    if compact is None:
        raise FormatError("lora_B is not zero outside the slices that the header lists")
    site = SlicedSite(a.shape[1], b.shape[0], transposed, parts)
    return ModuleAdapter(spec, tensors, site).with_factors(*compact)
