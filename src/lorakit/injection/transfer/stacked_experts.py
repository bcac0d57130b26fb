"""An adapter of a mixture's experts as layers, on a model that has them stacked in parameters.

Before transformers 5 each expert was a module with linear layers; now one parameter holds the
weights of all, some of them above one another:

    experts.0.w1 (O, I), experts.0.w3 (O, I), experts.1.w1, ...    experts.gate_up_proj (E, 2 O, I)
    experts.0.w2, experts.1.w2, ...                                experts.down_proj (E, I, O)

The adapters of weights above one another are exactly one of the summed rank:

    [B_1 A_1; B_2 A_2] = [B_1 0; 0 B_2] [A_1; A_2]

Which weights make which parameter is in transformers' tables of conversions, as PEFT reads them.
A router was a linear layer too, and now has its weight itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.settings import selecting, with_settings_of
from lorakit.config import alpha_for
from lorakit.errors import MismatchError
from lorakit.injection.selection.parameters import as_layers
from lorakit.layer_groups import group_sentences, joined
from lorakit.layers import conversion
from lorakit.private.transformers_names import stacked_weights
from lorakit.variants import LinearSite, ModuleAdapter, ParameterSite

Parts = list[list[str]]
"""For each of the weights above one another the names of all experts' modules, in their order."""
_WEIGHT = ".weight"


def with_stacked_experts(model: nn.Module, bundle: AdapterBundle) -> AdapterBundle:
    """The bundle with one adapter for each parameter that holds what several of its modules were.

    Raises MismatchError where that is not exact.
    """
    there = dict(model.named_modules(remove_duplicate=False))
    groups, others = stacks_of(model, [name for name in bundle.adapters if name not in there])
    if not groups and not others:
        return bundle
    problems = [
        f"{name} is part of a parameter here that transformers computes otherwise"
        for name in others
    ]
    layers, made = as_layers(model, groups), {}
    for parameter, parts in groups.items():
        site = conversion.site_of(layers[parameter])
        assert isinstance(site, ParameterSite)
        adapters = [[bundle.adapters[name] for name in names] for names in parts]
        problem = _problem(adapters, site)
        if parameter in bundle.adapters:
            problem = "the file adapts it as well, beside its experts one by one"
        if problem is None:
            made[parameter] = _stacked(adapters, site)
        else:
            problems.append(f"{parameter}: {problem}")
    if problems:
        raise MismatchError(
            "The adapter is of experts that were modules of their own, and are parts of one "
            "parameter in this model; it cannot be put together:",
            group_sentences(problems),
        )
    return _with(bundle, made, groups)


def stacks_of(model: nn.Module, names: Sequence[str]) -> tuple[dict[str, Parts], list[str]]:
    """The parameters that hold the weights of earlier modules, with these modules' names.

    Also returns those of the names whose weights are in a parameter that does not just stack them.
    Names whose weights are by themselves are in neither.
    """
    places = stacked_weights(model, names) if names else {}
    groups: dict[str, Parts] = {}
    for name in sorted(places, key=_naturally):
        place = places[name]
        if place is not None:
            parts = groups.setdefault(place.parameter, [[] for _ in range(place.parts)])
            parts[place.part].append(name)
    return groups, [name for name, place in places.items() if place is None]


def stacked_keys(model: nn.Module, keys: Iterable[str]) -> dict[str, Parts]:
    """For each parameter that stacks weights of a checkpoint their keys, which are among these."""
    stems = [key.removesuffix(_WEIGHT) for key in keys if key.endswith(_WEIGHT)]
    return {
        parameter: [[f"{stem}{_WEIGHT}" for stem in part] for part in parts]
        for parameter, parts in stacks_of(model, stems)[0].items()
    }


def _naturally(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _problem(parts: Sequence[Sequence[ModuleAdapter]], site: ParameterSite) -> str | None:
    """Why these adapters are not one of the parameter."""
    adapters = [adapter for part in parts for adapter in part]
    counts = sorted({len(part) for part in parts})
    if counts != [site.count]:
        return (
            f"it has {site.count} experts of {len(parts)} weights each, and the file adapts "
            f"{' and '.join(str(len(part)) for part in parts)} of them"
        )
    if other := next((x for x in adapters if x.spec.variant != "lora"), None):
        return f"its experts have {other.variant.title}, which {other.variant.beyond_product}"
    if any(x.site is not None and type(x.site) is not LinearSite for x in adapters):
        return "its experts have adapters that are not of whole linear layers"
    if any(len({x.spec.r for x in part}) > 1 for part in parts):
        return "its experts have adapters of several ranks"
    if len({x.spec.scaling for x in adapters}) > 1:
        return "its experts have adapters of several scales"
    heights = [part[0].tensors["lora_B"].shape[0] for part in parts]
    widths = {x.tensors["lora_A"].shape[1] for x in adapters}
    if sum(heights) != site.out_features or widths != {site.in_features} or site.transposed:
        return f"its experts are {site.out_features} x {site.in_features}, and the file's are not"
    return None


def _stacked(parts: Sequence[Sequence[ModuleAdapter]], site: ParameterSite) -> ModuleAdapter:
    pairs = []
    for beside in zip(*parts, strict=True):
        a = torch.cat([x.tensors["lora_A"] for x in beside])
        pairs.append((a, torch.block_diag(*(x.tensors["lora_B"] for x in beside))))
    spec, rank = parts[0][0].spec, len(pairs[0][0])
    alpha = alpha_for(spec.scaling, rank, spec.use_rslora)
    spec = replace(spec, r=rank, lora_alpha=alpha, lora_dropout=0.0)
    a, b = site.join(pairs)
    return ModuleAdapter(spec, {"lora_A": a, "lora_B": b}, site)


def _with(
    bundle: AdapterBundle, made: Mapping[str, ModuleAdapter], groups: Mapping[str, Parts]
) -> AdapterBundle:
    """The bundle with these adapters of parameters."""
    before = {name for parts in groups.values() for names in parts for name in names}
    rest = {name: _undropped(x) for name, x in bundle.adapters.items() if name not in before}
    renamed = {parameter: ", ".join(map(joined, parts)) for parameter, parts in groups.items()}
    return _with_adapters(bundle, {**rest, **made}, renamed)


def with_routers(model: nn.Module, bundle: AdapterBundle) -> AdapterBundle:
    """The bundle with adapters of parameters for routers, which were linear layers and are none."""
    found = {
        name: adapter
        for name, module in model.named_modules()
        if (adapter := bundle.adapters.get(name)) is not None
        and type(adapter.site) is LinearSite
        and type(module).__name__.endswith("Router")
        and conversion.lora_class_of(module) is None
    }
    if not found:
        return bundle
    made = {
        f"{name}.weight": replace(
            _undropped(adapter),
            site=ParameterSite(adapter.site.in_features, adapter.site.out_features),
        )
        for name, adapter in found.items()
        if adapter.site is not None
    }
    rest = {name: _undropped(x) for name, x in bundle.adapters.items() if name not in found}
    names = {f"{name}.weight": bundle.renamed.get(name, name) for name in found}
    return _with_adapters(bundle, {**rest, **made}, names)


def _undropped(adapter: ModuleAdapter) -> ModuleAdapter:
    """Without dropout, which adapters of parameters cannot have, nor PEFT's any beside them."""
    return replace(adapter, spec=replace(adapter.spec, lora_dropout=0.0))


def _with_adapters(
    bundle: AdapterBundle, adapters: Mapping[str, ModuleAdapter], renamed: Mapping[str, str]
) -> AdapterBundle:
    kept = {name: old for name, old in bundle.renamed.items() if name in adapters}
    return replace(
        bundle,
        config=with_settings_of(selecting(bundle.config, adapters), adapters),
        adapters=adapters,
        renamed={**kept, **renamed},
        fingerprint=None,  # of the weights by themselves
    )
