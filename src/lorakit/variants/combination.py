"""Weighted sums of adapters of one module, exactly, as one adapter of the summed rank.

    sum of w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...]

Slices and the groups of a convolution are joined one by one. Where the adapters' sites differ,
slices become their block form and loralib's matrices kernels first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lorakit.config import alpha_for
from lorakit.functional import conv, slices
from lorakit.variants.adapter import ModuleAdapter
from lorakit.variants.conv_site import ConvSite
from lorakit.variants.site import LinearSite, Pair, Site, SlicedSite
from lorakit.variants.spec import AdapterSpec


def weighted_sum(terms: Sequence[tuple[ModuleAdapter, float]]) -> ModuleAdapter:
    """The adapter whose dW is the sum of each term's dW times its weight.

    The adapters are low-rank (`Variant.is_low_rank`), for one module, and their sites are known.
    The scale of the result is 1.
    """
    site, adapters = on_one_site([adapter for adapter, _ in terms])
    both = zip(adapters, terms, strict=True)
    factors = [adapter.spec.scaling * weight for adapter, (_, weight) in both]
    split = [site.pairs(x.tensors["lora_A"], x.tensors["lora_B"]) for x in adapters]
    a, b = site.join([_stacked(pairs, factors) for pairs in zip(*split, strict=True)])
    rank = sum(adapter.spec.r for adapter in adapters)
    spec = AdapterSpec(rank, lora_alpha=rank, merge_weights=terms[0][0].spec.merge_weights)
    return ModuleAdapter(spec, {"lora_A": a, "lora_B": b}, site)


def on_one_site(adapters: Sequence[ModuleAdapter]) -> tuple[Site, list[ModuleAdapter]]:
    """The same adapters, all for the same layout of the weight.

    A file may not say that a linear weight is transposed or an attention's: where one of the sites
    says so, it is so.
    """
    if len({adapter.site for adapter in adapters}) > 1:
        adapters = [_whole(adapter) for adapter in adapters]
    sites = [adapter.site for adapter in adapters if adapter.site is not None]
    known = [s for s in sites if type(s) is not LinearSite or s.transposed]
    site = (known or sites)[0]
    return site, [replace(adapter, site=site) for adapter in adapters]


def _stacked(pairs: Sequence[Pair], factors: Sequence[float]) -> Pair:
    a_RI = torch.cat([a for a, _ in pairs])
    return a_RI, torch.cat([b * s for (_, b), s in zip(pairs, factors, strict=True)], dim=1)


def _whole(adapter: ModuleAdapter) -> ModuleAdapter:
    """The same update without slices, and of a convolution with kernels; the same scale."""
    site, a, b = adapter.site, adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    if isinstance(site, SlicedSite):
        whole: Site = LinearSite(site.in_features, site.out_features, site.transposed)
        a, b = slices.as_block(a, b, site.slices)
    elif isinstance(site, ConvSite) and site.square:
        whole = replace(site, square=False)
        a, b = conv.square_as_kernel_form(a, b, torch.Size(site.shape))
    else:
        return adapter
    spec, rank = adapter.spec, len(a)
    spec = replace(spec, r=rank, lora_alpha=alpha_for(spec.scaling, rank, spec.use_rslora))
    return adapter.with_factors(a, b, spec=spec, site=whole)
