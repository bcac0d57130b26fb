"""`combine`: one adapter from several with weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from lorakit.algebra.addends import Addend, Terms, by_module, is_kept, problems
from lorakit.algebra.approximation import approximate, exact, from_matrices, widest
from lorakit.algebra.assembly import assemble
from lorakit.algebra.given import HEADLINE, require_terms
from lorakit.algebra.methods import DENSITY, LINEAR, METHODS, Elementwise
from lorakit.algebra.outcome import Approximation, Deviation, Outcome
from lorakit.algebra.resizing import resize
from lorakit.algebra.size import Size, size_of
from lorakit.base_checkpoints import Bar, told, untold
from lorakit.checkpoint import AdapterBundle
from lorakit.config import is_number
from lorakit.config.values import is_whole
from lorakit.errors import ConfigError, MismatchError, suggest
from lorakit.layer_groups import group_sentences
from lorakit.variants import AdapterSpec, ModuleAdapter, RowsSite
from lorakit.variants.combination import on_one_site, weighted_sum


def combine(
    terms: Iterable[tuple[AdapterBundle, float]],
    rank: int | None = None,
    energy: float | None = None,
    method: str = LINEAR,
    density: float | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    bar: Bar = untold,
) -> Outcome:
    """One adapter whose update is the weighted sum of those of all: sum of w_i s_i B_i A_i.

    `terms` are (adapter, weight). The sum is exact but for the rounding of B: the factors stand
    beside each other, and the rank is the sum of the ranks. `rank` or `energy` cut it as `resize`
    does. Weights may be negative; adapters of weight 0 are left out; one adapter of weight 1 is
    given back as it is. A module that only some adapt gets their sum.

    Another `method` than "linear" is one of `algebra.methods.METHODS`: "ties", "dare_linear",
    "dare_ties" and "magnitude_prune". They keep the share `density` of each update (by default a
    fifth), which DARE draws from `seed`; their result is cut to `rank`, by default the sum of the
    ranks.

    What replaces the base's own numbers (heads, biases, rows of tokens) can only be taken whole: it
    has to be the same in all that have it, and their weights have to add up to 1. `names` are
    what messages call the adapters, by default by their places. `bar` is told the bytes that are
    done.

    Raises ConfigError for what is no adapter, and weights, a size or a method that cannot be used;
    MismatchError that lists all that cannot be added (other bases, sizes or variants, DoRA, heads
    or rows that differ), and for NaN or infinite values, in an adapter or in the sum.
    """
    given = require_terms(terms, names)
    size = size_of(rank, energy)
    elementwise = _method(method, density, seed)
    addends = [Addend(*term) for term in given if term[2]]
    if elementwise is None and len(addends) == 1 and addends[0].weight == 1:
        alone = addends[0].bundle
        return Outcome(alone, Deviation()) if size is None else resize(alone, rank, energy, bar)
    if wrong := problems(addends, size, computed=elementwise is not None):
        raise MismatchError(HEADLINE, group_sentences(wrong))
    modules = by_module(addends)
    if elementwise is None:
        return assemble(addends, *_sums(modules, size, bar))
    share = DENSITY if density is None else density
    return assemble(addends, *_merged(modules, size, elementwise, share, seed, bar))


_SEEDS = 2**64
"""How many torch's generators take."""


def _method(name: str, density: float | None, seed: int) -> Elementwise | None:
    """The method of this name, None for the weighted sum; raises ConfigError for its settings."""
    choices = (LINEAR, *METHODS)
    found = []
    if name not in choices:
        found.append(
            f"the method {name!r} is unknown{suggest(name, choices)}; choose one of "
            f"{', '.join(choices)}"
        )
    elif density is not None and name == LINEAR:
        found.append("density has no effect with the method linear; leave it out")
    if density is not None and not (is_number(density) and 0 < density <= 1):
        found.append(f"density is {density!r}; it must be above 0 and at most 1")
    if not is_whole(seed, 0) or seed >= _SEEDS:
        found.append(f"seed is {seed!r}; it must be an integer from 0 to {_SEEDS - 1}")
    if found:
        raise ConfigError(HEADLINE, found)
    return METHODS.get(name)


Parts = tuple[dict[str, Approximation], dict[str, ModuleAdapter]]
"""What was computed, and what stays as it is, by module."""


def _sums(modules: Mapping[str, Terms], size: Size | None, bar: Bar) -> Parts:
    """The weighted sum of each module."""
    kept = {
        name: terms[0][1]
        for name, terms in modules.items()
        if _has_rows(terms) or (size is None and is_kept(terms))
    }
    sums = {}
    for name, terms in told(_without(modules, kept), _bytes, bar):
        total = weighted_sum([(exact(adapter), weight) for _, adapter, weight in terms])
        sums[name] = approximate(total, size, widest(adapter for _, adapter, _ in terms))
    return sums, kept


def _merged(
    modules: Mapping[str, Terms],
    size: Size | None,
    method: Elementwise,
    density: float,
    seed: int,
    bar: Bar,
) -> Parts:
    """What a method on the numbers of the updates makes of each module, one after the other."""
    draws = torch.Generator().manual_seed(seed)
    kept = {name: terms[0][1] for name, terms in modules.items() if _has_rows(terms)}
    merged = {
        name: _elementwise(terms, size, method, density, draws)
        for name, terms in told(dict(sorted(_without(modules, kept).items())), _bytes, bar)
    }
    return {name: merged[name] for name in modules if name in merged}, kept


def _elementwise(
    terms: Terms, size: Size | None, method: Elementwise, density: float, draws: torch.Generator
) -> Approximation:
    site, adapters = on_one_site([adapter for _, adapter, _ in terms])
    products = [[(b @ a.to(b)).float() for a, b in adapter.factors()] for adapter in adapters]
    updates = [torch.cat([matrix.flatten() for matrix in each]) for each in products]
    numbers = method.combined(updates, [weight for _, _, weight in terms], density, draws)
    shapes = [matrix.shape for matrix in products[0]]
    parts = numbers.split([shape.numel() for shape in shapes])
    most = sum(adapter.spec.r for adapter in adapters)
    spec = AdapterSpec(most, lora_alpha=most, merge_weights=adapters[0].spec.merge_weights)
    matrices = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    form = ModuleAdapter(spec, {}, site)
    return from_matrices(form, matrices, size or Size(rank=most), widest(adapters))


def _without(modules: Mapping[str, Terms], kept: Mapping[str, object]) -> dict[str, Terms]:
    return {name: terms for name, terms in modules.items() if name not in kept}


def _bytes(terms: Terms) -> int:
    return sum(adapter.bytes for _, adapter, _ in terms)


def _has_rows(terms: Terms) -> bool:
    return isinstance(terms[0][1].site, RowsSite)
