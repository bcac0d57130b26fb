"""Adapters of every kind of weight, and their updates written out in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    LinearSite,
    ModuleAdapter,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.trainable_tokens import VALUES, rows_spec

SITES: dict[str, Site] = {
    "linear": LinearSite(11, 7),
    "transposed": LinearSite(11, 7, transposed=True),
    "slices": SlicedSite(11, 15, slices=((5, True), (3, False), (7, True))),
    "transposed slices": SlicedSite(11, 15, True, ((5, True), (3, False), (7, True))),
    "embedding": EmbeddingSite(13, 5),
    "kernel": ConvSite((7, 5, 3)),
    "groups": ConvSite((6, 4, 3), groups=2),
    "square": ConvSite((6, 4, 3, 3), square=True),
}


def random_adapter(site: Site, r: int = 2, seed: int = 0, alpha: float = 3) -> ModuleAdapter:
    """With Gaussian A and B."""
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(shape, generator=draw) for shape in site.factor_shapes(r))
    return ModuleAdapter(AdapterSpec(r, alpha), {"lora_A": a, "lora_B": b}, site)


def random_weight(site: Site, seed: int = 100) -> Tensor:
    """Of that site."""
    return torch.randn(site.weight_shape, generator=torch.Generator().manual_seed(seed))


def dora(weight: Tensor, r: int = 2) -> ModuleAdapter:
    """Whose magnitudes are not those of its start."""
    out, width = weight.shape
    tensors = random_adapter(LinearSite(width, out), r).tensors
    magnitude = torch.linspace(0.5, 2.0, out)
    spec = AdapterSpec(r, 3, variant="dora")
    return ModuleAdapter(
        spec, {**tensors, "lora_magnitude_vector": magnitude}, LinearSite(width, out)
    )


def tokens(rows: tuple[int, ...], height: int, width: int) -> ModuleAdapter:
    """Rows of a table with values of their own."""
    values = torch.randn(len(rows), width, generator=torch.Generator().manual_seed(7))
    return ModuleAdapter(rows_spec(rows), {VALUES: values}, RowsSite(width, height, rows=rows))


def written_out(site: Site, adapter: ModuleAdapter) -> list[Tensor]:
    """dW of each part (O, I) in float64, by a loop over ranks and by the kind of weight."""
    a, b = (adapter.tensors[name].double() for name in ("lora_A", "lora_B"))
    s, r = adapter.spec.lora_alpha / adapter.spec.r, adapter.spec.r
    if isinstance(site, SlicedSite):
        heights = [height for height, adapted in site.slices if adapted]
        pairs = zip(a.split(r), b.split(heights), strict=True)
    elif isinstance(site, ConvSite) and not site.square:
        per_group = r // site.groups, site.out_features // site.groups
        pairs = zip(a.flatten(1).split(per_group[0]), b.flatten(1).split(per_group[1]), strict=True)
    else:
        pairs = zip([a], [b], strict=True)
    return [sum(s * torch.outer(b[:, k], a[k]) for k in range(len(a))) for a, b in pairs]  # type: ignore[misc]


def matrices(site: Site, weight: Tensor) -> list[Tensor]:
    """What of a weight stands where these are."""
    if isinstance(site, ConvSite) and site.square:
        return [weight.reshape(-1, site.shape[1] * site.shape[2])]
    if isinstance(site, ConvSite):
        return [part.flatten(1) for part in weight.chunk(site.groups)]
    if isinstance(site, EmbeddingSite) or getattr(site, "transposed", False):
        weight = weight.t()
    if isinstance(site, SlicedSite):
        parts = weight.split([height for height, _ in site.slices])
        return [part for part, (_, on) in zip(parts, site.slices, strict=True) if on]
    return [weight]
