"""What is added: adapters with weights, whether they can be, and what of them cannot be scaled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.algebra.bases import base_problems, listed
from lorakit.algebra.resizing import UNKNOWN_LAYER
from lorakit.algebra.size import Size
from lorakit.checkpoint import AdapterBundle
from lorakit.text import plural
from lorakit.variants import ConvSite, ModuleAdapter, ParameterSite, RowsSite, Site


@dataclass(frozen=True)
class Addend:
    """One adapter of a sum; its weight is not 0."""

    label: str
    """Its name in messages."""
    bundle: AdapterBundle
    weight: float


Terms = Sequence[tuple[str, ModuleAdapter, float]]
"""(label of the addend, its adapter, its weight) of one module."""


def by_module(addends: Iterable[Addend]) -> dict[str, Terms]:
    """The terms of each module."""
    found: dict[str, list[tuple[str, ModuleAdapter, float]]] = defaultdict(list)
    for addend in addends:
        for name, adapter in addend.bundle.adapters.items():
            found[name].append((addend.label, adapter, addend.weight))
    return dict(found)


def is_kept(terms: Terms) -> bool:
    """Whether the sum is one adapter as it is."""
    return len(terms) == 1 and terms[0][2] == 1


def problems(addends: Sequence[Addend], size: Size | None, computed: bool) -> list[str]:
    """Why these cannot be added; `computed` says that no module stays as it is."""
    found = [*_bundle_problems(addends), *base_problems({a.label: a.bundle for a in addends})]
    for name, terms in by_module(addends).items():
        if any(isinstance(adapter.site, RowsSite) for _, adapter, _ in terms):
            found += [f"{name}: {why}" for why in _row_problems(terms)]
        elif computed or size is not None or not is_kept(terms):
            found += [f"{name}: {why}" for why in _module_problems(terms, size)]
    return found + _variant_problems(addends) + _trained_problems(addends)


def _bundle_problems(addends: Iterable[Addend]) -> Iterator[str]:
    for addend in addends:
        if addend.bundle.method != "lora":
            yield f"{addend.label} was trained by the method {addend.bundle.method}, not lora"
        elif addend.bundle.spelling is not None:
            yield (
                f"{addend.label} has module names of the format {addend.bundle.format}; load it "
                "onto its model and save it from there"
            )


def _module_problems(terms: Terms, size: Size | None) -> Iterator[str]:
    unknown = [label for label, adapter, _ in terms if adapter.site is None]
    if unknown:
        yield f"of {listed(unknown)}: {UNKNOWN_LAYER}"
    for label, adapter, weight in terms:
        if not adapter.variant.is_low_rank:
            yield (
                f"{adapter.variant.title} of {label} {adapter.variant.beyond_product}, so its "
                "update cannot be added, weighted or resized "
                f"(weight {weight:g}, {plural(len(terms), 'adapter')})"
            )
    shapes = {_geometry(x.site): label for label, x, _ in terms if x.site is not None}
    if len(shapes) > 1:
        yield "sizes differ: " + ", ".join(f"{shape} in {at}" for shape, at in shapes.items())
    sites = [adapter.site for _, adapter, _ in terms if adapter.site is not None]
    if sites and size is not None and size.rank is not None:
        yield from filter(None, [sites[0].rank_problem(size.rank)])


def _geometry(site: Site) -> str:
    """What two sites of one weight have in common, whatever else their files say."""
    if isinstance(site, ConvSite):
        return f"{site.shape}" + (f" in {site.groups} groups" if site.groups > 1 else "")
    if isinstance(site, ParameterSite):
        return f"{site.count} x ({site.out_features}, {site.in_features})"
    kind = "embedding" if site.kind == "embedding" else "linear"
    return f"{kind} ({site.out_features}, {site.in_features})"


def _row_problems(terms: Terms) -> Iterator[str]:
    labels = listed(label for label, _, _ in terms)
    first = terms[0][1]
    if any(not isinstance(adapter.site, RowsSite) for _, adapter, _ in terms):
        yield f"some of {labels} train rows of it, others adapt it as a whole"
    elif len({adapter.site.rows for _, adapter, _ in terms}) > 1:  # type: ignore[union-attr]
        yield f"{labels} train different rows of it"
    elif not all(_equal(adapter.tensors, first.tensors) for _, adapter, _ in terms):
        yield f"{labels} have different values for the same rows; {_REPLACED}"
    else:
        yield from _weight_problems([weight for _, _, weight in terms], labels)


def _variant_problems(addends: Iterable[Addend]) -> list[str]:
    """Modules of several variants: a config has one."""
    found: dict[str, str] = {}
    for name, terms in by_module(addends).items():
        for _, adapter, _ in terms:
            if not isinstance(adapter.site, RowsSite):
                found.setdefault(adapter.variant.title, name)
    if len(found) < 2:
        return []
    listed = ", ".join(f"{title} at {name}" for title, name in found.items())
    return [f"one adapter cannot have several variants: {listed}"]


def _trained_problems(addends: Iterable[Addend]) -> list[str]:
    """Tensors that were trained in full: a head, a bias."""
    owners: dict[str, list[Addend]] = defaultdict(list)
    for addend in addends:
        for name in addend.bundle.trained:
            owners[name].append(addend)
    found = []
    for name, those in owners.items():
        labels = listed(addend.label for addend in those)
        first = those[0].bundle.trained[name]
        if not all(_equal({"": x.bundle.trained[name]}, {"": first}) for x in those):
            found.append(f"{name} differs between {labels}; {_REPLACED}")
        elif any(name not in addend.bundle.base_copies for addend in those):
            weights = [addend.weight for addend in those]
            found += [f"{name}: {why}" for why in _weight_problems(weights, labels)]
    return found


_REPLACED = "they replace the base's own, and only one can"


def _weight_problems(weights: Sequence[float], labels: str) -> Iterator[str]:
    """W + sum of w_i (T - W) is T only where the weights add up to 1."""
    total = math.fsum(weights)
    if not math.isclose(total, 1, rel_tol=1e-9):
        yield (
            f"its values in {labels} replace the base's own, so they can only be taken whole: "
            f"with weights that add up to 1, not {total:g}"
        )


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(
        x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)
        for x, y in zip(one.values(), other.values(), strict=True)
    )
