"""The same update in other numbers: what formats with fewer settings hold.

    a slice of a fused weight    one LoRA of the summed rank, B in blocks
    a smaller rank               zero rows of A, zero columns of B
    a scale of its own           B times the quotient of its scale and the format's

Only the last one computes. It is done in float32, and 16-bit factors stay 16 bits wide where that
loses nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.config import alpha_for
from lorakit.functional import slices
from lorakit.variants import LinearSite, ModuleAdapter

Adapters = Mapping[str, ModuleAdapter]


def whole(adapter: ModuleAdapter) -> ModuleAdapter:
    """The slices of a fused weight as one LoRA of the whole; any other adapter as it is."""
    site = adapter.site
    if not isinstance(site, LinearSite) or site.slices is None:
        return adapter
    a, b = slices.as_block(adapter.tensors["lora_A"], adapter.tensors["lora_B"], site.slices)
    plain = LinearSite(site.in_features, site.out_features, site.transposed)
    return _of_rank(adapter.with_factors(a, b, site=plain), len(a))


def padded(adapter: ModuleAdapter, r: int) -> ModuleAdapter:
    """The same update at rank `r`, which is at least its own."""
    more = r - adapter.spec.r
    a, b = adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    if more == 0:
        return adapter
    return _of_rank(adapter.with_factors(F.pad(a, (0, 0, 0, more)), F.pad(b, (0, more))), r)


def scaled_to(adapter: ModuleAdapter, scale: float) -> ModuleAdapter:
    """The same update at this scale, without rsLoRA: what is left of its own goes into B."""
    spec = replace(
        adapter.spec,
        lora_alpha=alpha_for(scale, adapter.spec.r, use_rslora=False),
        use_rslora=False,
    )
    a, b = adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    if (factor := adapter.spec.scaling / scale) != 1:
        b = _times(b, factor)
        a = a.to(b.dtype)
    return adapter.with_factors(a, b, spec=spec)


def with_one_rank(adapters: Adapters) -> dict[str, ModuleAdapter]:
    """Each of them at the largest rank."""
    largest = max((adapter.spec.r for adapter in adapters.values()), default=0)
    return {name: padded(adapter, largest) for name, adapter in adapters.items()}


def with_one_alpha(
    adapters: Adapters, can_hold: Callable[[float], bool] = math.isfinite
) -> dict[str, ModuleAdapter]:
    """Each of them with the `lora_alpha` that most have, and scale alpha / r.

    It is one that the format `can_hold`; 1 where there is none.
    """
    specs = [adapter.spec for adapter in adapters.values()]
    alphas = Counter(alpha_for(spec.scaling, spec.r, use_rslora=False) for spec in specs)
    held = (alpha for alpha, _ in alphas.most_common() if can_hold(alpha))
    alpha = next(held, 1)
    return {name: scaled_to(x, alpha / x.spec.r) for name, x in adapters.items()}


def is_float32(value: float) -> bool:
    """Whether float32 holds this number exactly."""
    return float(torch.tensor(value, dtype=torch.float32)) == value


def with_adapters(bundle: AdapterBundle, adapters: Adapters) -> AdapterBundle:
    """The bundle with these in place of its adapters; what its config says of all follows them."""
    ranks = Counter(x.spec.r for x in adapters.values())
    alphas = Counter(x.spec.lora_alpha for x in adapters.values())
    config = bundle.config.replace(
        r=ranks.most_common(1)[0][0] if ranks else bundle.config.r,
        lora_alpha=alphas.most_common(1)[0][0] if alphas else bundle.config.lora_alpha,
        rank_pattern={},
        alpha_pattern={},
        slices={},
        use_rslora=any(x.spec.use_rslora for x in adapters.values()),
    )
    return replace(bundle, config=config, adapters=dict(adapters))


def _of_rank(adapter: ModuleAdapter, r: int) -> ModuleAdapter:
    spec = adapter.spec
    alpha = alpha_for(spec.scaling, r, spec.use_rslora)
    return replace(adapter, spec=replace(spec, r=r, lora_alpha=alpha))


def _times(b: Tensor, factor: float) -> Tensor:
    """B times a number: in its own type where that is exact, else in float32 or wider."""
    wide = b.to(torch.promote_types(b.dtype, torch.float32)) * factor
    narrow = wide.to(b.dtype)
    return narrow if torch.equal(narrow.to(wide.dtype), wide) else wide
