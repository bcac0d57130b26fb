"""Weighted sums of adapters of one module, exactly, as one adapter of the summed rank.

    sum of w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]

Slices become their block form first; a convolution with groups is joined group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lorakit.functional import conv, slices
from lorakit.variants.adapter import ModuleAdapter
from lorakit.variants.conv_site import ConvSite
from lorakit.variants.site import LinearSite, Site, SlicedSite
from lorakit.variants.spec import AdapterSpec


def weighted_sum(terms: Sequence[tuple[ModuleAdapter, float]]) -> ModuleAdapter:
    """The adapter whose dW is the sum of each term's dW times its weight.

    The adapters are low-rank (`Variant.is_low_rank`), for one module, and their sites are known.
    The scale of the result is 1.
    """
    sites, pairs = zip(*(_whole(adapter) for adapter, _ in terms), strict=True)
    site = sites[0]
    groups = site.groups if isinstance(site, ConvSite) else 1
    factors = [(adapter.spec.scaling * weight) for adapter, weight in terms]
    a = torch.cat([_by_group(a, groups) for a, _ in pairs], dim=1).flatten(0, 1)
    b = torch.cat([b * s for (_, b), s in zip(pairs, factors, strict=True)], dim=1)
    spec = AdapterSpec(len(a), lora_alpha=len(a), merge_weights=terms[0][0].spec.merge_weights)
    return ModuleAdapter(spec, {"lora_A": a, "lora_B": b}, site)


def _by_group(a: Tensor, groups: int) -> Tensor:
    """A (G, R/G, ...)."""
    return a.reshape(groups, len(a) // groups, *a.shape[1:])


def _whole(adapter: ModuleAdapter) -> tuple[Site, tuple[Tensor, Tensor]]:
    """The site as a whole, and A and B in the form that adds up by rank."""
    site, a, b = adapter.site, adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    assert site is not None
    if isinstance(site, SlicedSite):
        whole = LinearSite(site.in_features, site.out_features, site.transposed)
        return whole, slices.as_block(a, b, site.slices)
    if isinstance(site, ConvSite) and site.square:
        pair = conv.square_as_kernel_form(a, b, torch.Size(site.shape))
        return replace(site, square=False), pair
    return site, (a, b)
