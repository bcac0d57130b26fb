"""From an exact update to an adapter of a given size and dtype, and what is lost on the way.

Everything is computed in float64 from the factors: QR of each and the SVD of the small core (see
`functional.svd`), so no matrix of a weight's size is formed. The result is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.algebra.outcome import Approximation
from lorakit.algebra.size import Size
from lorakit.config import alpha_for
from lorakit.functional import svd
from lorakit.functional.svd import Svd
from lorakit.variants import ModuleAdapter, Site
from lorakit.variants.site import Pair

_ROWS = 1024


def exact(adapter: ModuleAdapter) -> ModuleAdapter:
    """The same in float64."""
    a, b = (adapter.tensors[name].detach().double() for name in ("lora_A", "lora_B"))
    return adapter.with_factors(a, b)


def widest(adapters: Iterable[ModuleAdapter]) -> torch.dtype:
    """The dtype that holds the numbers of all their factors."""
    dtypes = [x.tensors[name].dtype for x in adapters for name in ("lora_A", "lora_B")]
    return reduce(torch.promote_types, dtypes)


def approximate(adapter: ModuleAdapter, size: Size | None, dtype: torch.dtype) -> Approximation:
    """The adapter, whose factors are float64, in this size and dtype; its scale stays."""
    site, scale, rank = _site(adapter), adapter.spec.scaling, adapter.spec.r
    pairs = list(site.pairs(adapter.tensors["lora_A"], adapter.tensors["lora_B"]))
    if not math.isfinite(abs(scale) * math.hypot(*(_norm(a) * _norm(b) for a, b in pairs))):
        return Approximation(adapter, math.inf, math.inf)
    parts: list[Svd] = []
    if size is not None and (size.rank is None or size.rank < rank):
        vectors = None if size.rank is None else site.pair_rank(size.rank)
        parts = [svd.decompose(a, b, scale, vectors) for a, b in pairs]
    norms = [_norm(part.values_K) for part in parts] or [
        abs(scale) * float(svd.product_norm(a, b)) for a, b in pairs
    ]
    wanted = rank if size is None else size.rank_of(site, [x.values_K for x in parts], rank)
    within = site.pair_rank(wanted)
    if wanted < rank:
        pairs = [svd.balanced(part, within, scale) for part in parts]
        cut = math.hypot(*(float(part.values_K[within:].norm()) for part in parts))
    else:
        pairs, cut = [_padded(pair, within) for pair in pairs], 0.0
    near = rounded(adapter, pairs, wanted, dtype)
    both = zip(pairs, site.pairs(near.tensors["lora_A"], near.tensors["lora_B"]), strict=True)
    rounding = [abs(scale) * float(_difference(*pair)) for pair in both]
    # The rounding is at a right angle to what was cut, or as good as.
    return Approximation(near, math.hypot(cut, *rounding), math.hypot(*norms))


def from_matrices(
    form: ModuleAdapter, matrices: Sequence[Tensor], size: Size, dtype: torch.dtype
) -> Approximation:
    """The adapter whose update is near a dense one, given by a matrix for each of the site's parts.

    `form` has the site, the scale, and the highest rank that an energy may take.
    """
    site, scale = _site(form), form.spec.scaling
    norm = math.hypot(*map(_norm, matrices))
    if not math.isfinite(norm):
        return Approximation(form, math.inf, norm)
    count = None if size.rank is None else site.pair_rank(size.rank)
    parts = [svd.leading(matrix, count) for matrix in matrices]
    rank = size.rank_of(site, [part.values_K for part in parts], form.spec.r)
    pairs = [svd.balanced(part, site.pair_rank(rank), scale) for part in parts]
    near = rounded(form, pairs, rank, dtype)
    both = zip(matrices, site.pairs(near.tensors["lora_A"], near.tensors["lora_B"]), strict=True)
    missed = [_distance(matrix, pair, near.spec.scaling) for matrix, pair in both]
    return Approximation(near, math.hypot(*missed), norm)


def rounded(
    adapter: ModuleAdapter, pairs: Sequence[Pair], rank: int, dtype: torch.dtype
) -> ModuleAdapter:
    """The adapter of these pairs in `dtype`, at the same scale."""
    site, spec = _site(adapter), adapter.spec
    a, b = (tensor.to(dtype).contiguous() for tensor in site.join(pairs))
    if rank != spec.r:
        alpha = alpha_for(spec.scaling, rank, spec.use_rslora)
        spec = replace(spec, r=rank, lora_alpha=alpha)
    return adapter.with_factors(a, b, spec=spec)


def _distance(matrix: Tensor, pair: Pair, scale: float) -> float:
    """||M - s B A||, from some rows at a time."""
    a, b = (factor.to(matrix.dtype) for factor in pair)
    rows = zip(matrix.split(_ROWS), b.split(_ROWS), strict=True)
    return math.hypot(*(_norm(part - scale * (some @ a)) for part, some in rows))


def _norm(matrix: Tensor) -> float:
    """Frobenius; squares of float32 can leave its range."""
    return float(torch.linalg.vector_norm(matrix, dtype=torch.float64))


def _difference(exact: Pair, near: Pair) -> Tensor:
    """||B A - B' A'|| of two near pairs, without taking the difference of large numbers."""
    (a, b), (a_near, b_near) = exact, near
    return svd.product_norm(torch.cat([a, a - a_near]), torch.cat([b - b_near, b_near], dim=1))


def _padded(pair: Pair, rank: int) -> Pair:
    """The same product at a higher rank: zeros."""
    a_RI, b_OR = pair
    more = rank - len(a_RI)
    return F.pad(a_RI, (0, 0, 0, more)), F.pad(b_OR, (0, more))


def _site(adapter: ModuleAdapter) -> Site:
    assert adapter.site is not None
    return adapter.site
