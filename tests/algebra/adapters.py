"""Random adapters for every kind of layer, and what their sums are by definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.settings import with_settings_of
from lorakit.config import LoraConfig
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.trainable_tokens import VALUES, rows_spec

SLICES = ((4, True), (2, False), (3, True))
SITES: dict[str, Site] = {
    "linear": LinearSite(7, 5),
    "transposed": LinearSite(7, 5, transposed=True),
    "slices": SlicedSite(7, 9, slices=SLICES),
    "transposed slices": SlicedSite(7, 9, True, SLICES),
    "embedding": EmbeddingSite(9, 4),
    "kernel": ConvSite((6, 4, 3, 2)),
    "groups": ConvSite((6, 4, 3), groups=2),
    "square": ConvSite((6, 4, 3, 3), square=True),
    "in_proj": InProjSite(4, 12),
    "out_proj": OutProjSite(4, 4),
}


def adapter(site: Site, r: int, dtype: torch.dtype = torch.float32, **spec: Any) -> ModuleAdapter:
    """Random factors for this site."""
    tensors = (torch.randn(shape, dtype=torch.float64) for shape in site.factor_shapes(r))
    named = dict(zip(("lora_A", "lora_B"), (t.to(dtype) for t in tensors), strict=True))
    return ModuleAdapter(AdapterSpec(r, **spec), named, site)


def tokens(rows: Sequence[int], width: int = 4) -> ModuleAdapter:
    """Random values for these rows of a vocabulary."""
    site = RowsSite(width, max(rows) + 1, rows=tuple(rows))
    return ModuleAdapter(rows_spec(tuple(rows)), {VALUES: torch.randn(len(rows), width)}, site)


def bundle(adapters: Mapping[str, ModuleAdapter], **fields: Any) -> AdapterBundle:
    """One whose config says what its adapters are."""
    names = [n for n, x in adapters.items() if not isinstance(x.site, RowsSite)]
    config = fields.pop("config", LoraConfig()).replace(target_modules=names or None)
    whole = AdapterBundle(with_settings_of(config, adapters), dict(adapters), **fields)
    return replace(whole, base_model=fields.get("base_model", "org/base"))


def wide(value: ModuleAdapter) -> Tensor:
    """dW in float64."""
    doubled = {name: tensor.double() for name, tensor in value.tensors.items()}
    return replace(value, tensors=doubled).delta()


def defined(terms: Sequence[tuple[AdapterBundle, float]], name: str) -> Tensor:
    """The weighted sum of the dense updates of a module, in float64."""
    deltas = [wide(x.adapters[name]) * weight for x, weight in terms if name in x.adapters]
    return torch.stack(deltas).sum(0)


def relative(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found - expected).norm() / expected.norm())
