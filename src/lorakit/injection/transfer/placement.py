"""Match the tensors of an adapter to the modules of a model, and list every mismatch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import compare
from lorakit.config import ALL_LINEAR, LoraConfig, is_bias
from lorakit.errors import suggest
from lorakit.functional.initialise import adapter_dtype
from lorakit.injection import trained_copies
from lorakit.injection.selection.architectures import unloaded
from lorakit.injection.selection.matching import target_names
from lorakit.injection.selection.naming import matches_suffix, without_indices
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.injection.transfer.resolution import format_shapes, resolve_adapter
from lorakit.layers import conversion
from lorakit.layers.base import AdapterLayer
from lorakit.layers.readers import reader_problem
from lorakit.variants import ModuleAdapter

_SUGGESTIONS = 10
"""How many unexpected names get a suggestion; the search takes time."""

_MISSING = "is a target module, but missing from the file"


@dataclass
class Placement:
    """Settings and values for each module, and every mismatch."""

    config: LoraConfig
    adapters: dict[str, ModuleAdapter] = field(default_factory=dict)
    """By module name, with copies of the tensors for the module's device."""
    trained: tuple[Slot, ...] = ()
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(name, what is wrong with it) pairs."""
    base_verified: bool | None = None


def place(model: nn.Module, bundle: AdapterBundle) -> Placement:
    """Match the bundle to the model without changing it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    adapted = dict(conversion.lora_layers(model))
    placement = Placement(bundle.config)
    missing = []
    for name, adapter in bundle.adapters.items():
        module = modules.get(name)
        if module is None:
            missing.append(name)
            continue
        problem = _place_adapter(placement, model, name, module, adapter)
        if problem:
            placement.problems.append((name, problem))
    placement.problems += _unexpected_modules(missing, modules)
    placement.problems += _missing_adapters(model, bundle, adapted)
    placement.trained = _place_trained(placement, modules, bundle)
    placement.problems += [
        (name, "is trained in full in this model, but missing from the file")
        for name in trained_copies.names(model)
        if name not in bundle.trained
    ]
    placement.problems += _missing_from_checkpoint(model, bundle)
    placement.config = _config_here(bundle, placement.adapters)
    if placement.adapters.keys() == bundle.adapters.keys():
        weights = {name: conversion.base_weight(modules[name]).detach() for name in bundle.adapters}
        placement.base_verified = compare(bundle.fingerprint, weights)
    return placement


def _unexpected_modules(
    names: list[str], modules: Mapping[str, nn.Module]
) -> list[tuple[str, str]]:
    """Messages for modules that the model lacks; similar layers share one suggestion."""
    hints = _hints(names, modules)
    return [(name, f"is unexpected: the model has no such module{hints[name]}") for name in names]


def _hints(names: Iterable[str], modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The closest names in the model for the first of these; similar layers share one."""
    groups = Counter(map(without_indices, dict.fromkeys(names)))
    patterns = sorted(set(map(without_indices, modules)))
    found: dict[str, str] = {}
    hints = {}
    for name in names:
        alike = without_indices(name)
        asked, there = (name, list(modules)) if groups[alike] == 1 else (alike, patterns)
        if asked not in found:
            found[asked] = suggest(asked, there) if len(found) < _SUGGESTIONS else ""
        hints[name] = found[asked]
    return hints


def _place_adapter(
    placement: Placement, model: nn.Module, name: str, module: nn.Module, adapter: ModuleAdapter
) -> str | None:
    """Match one module; returns what is wrong with it, if anything."""
    layer = module if isinstance(module, AdapterLayer) else None
    if layer is None:
        parent, _, child = name.rpartition(".")
        dropout = placement.config.lora_dropout
        reason = conversion.refusal(module)
        reason = reason or reader_problem(model.get_submodule(parent), child, dropout)
        if reason:
            return reason
    adapter_here = resolve_adapter(model, name, module, adapter)
    if adapter_here is None or adapter_here.site is None:
        return (
            f"has {format_shapes(adapter.shapes)}, which update some slices of a fused weight, and "
            "the file does not say which; call lorakit.inject with LoraConfig(slices=...) first"
        )
    spec, site = adapter_here.spec, adapter_here.site
    if reason := adapter.variant.refusal(site) or site.rank_problem(spec.r):
        return reason
    expected = adapter.variant.shapes(site, spec.r)
    if adapter.shapes != expected:
        weight = tuple(conversion.base_weight(module).shape)
        return (
            f"has a size mismatch: expected {format_shapes(expected)} (rank {spec.r}, weight "
            f"{weight}), got {format_shapes(adapter.shapes)}"
        )
    config = placement.config
    spec = replace(spec, lora_dropout=config.lora_dropout, merge_weights=config.merge_weights)
    tensors = {leaf: _master(module, tensor) for leaf, tensor in adapter.tensors.items()}
    placed = placement.adapters[name] = replace(adapter_here, spec=spec, tensors=tensors)
    return _difference(layer, placed) if layer is not None else None


def _difference(layer: AdapterLayer, placed: ModuleAdapter) -> str | None:
    """Why the values do not fit the existing adapter."""
    assert placed.site is not None
    here, there = layer.spec, placed.spec
    for what, mine, theirs in (
        ("variant", here.variant, there.variant),
        ("rank", here.r, there.r),
        ("scaling", here.scaling, there.scaling),
        ("slices", layer.site.slices, placed.site.slices),
    ):
        if mine != theirs:
            return (
                f"is adapted with {what} {mine}, but the file has {what} {theirs}; call "
                "lorakit.eject first, and load_adapter then adapts the model as the file says"
            )
    return None


def _master(module: nn.Module, tensor: Tensor) -> Tensor:
    """A copy in at least float32 on the module's device, unless that is the meta device."""
    weight = conversion.base_weight(module)
    dtype = adapter_dtype(weight.dtype)
    device = tensor.device if weight.is_meta else weight.device
    return tensor.detach().to(device=device, dtype=dtype, copy=True)


def _missing_adapters(
    model: nn.Module, bundle: AdapterBundle, adapted: Mapping[str, AdapterLayer]
) -> list[tuple[str, str]]:
    """Modules that the config, the model or their namesakes adapt, and the file does not."""
    names = dict.fromkeys(bundle.adapters)
    if adapted:
        missing = [name for name in adapted if name not in names]
        extra = [name for name in names if name not in adapted]
        return [(name, "is adapted, but missing from the file") for name in missing] + [
            (name, "is in the file, but not adapted in this model; call lorakit.eject first")
            for name in extra
        ]
    if bundle.targets_stated and bundle.config.target_modules not in (None, ALL_LINEAR):
        return _against_config(model, bundle)
    # A name that ends in an index, as in nn.Sequential, does not identify the type of module.
    alike = {without_indices(name) for name in names if not name.rpartition(".")[2].isdigit()}
    return [
        (name, _MISSING)
        for name, _ in model.named_modules()
        if without_indices(name) in alike and name not in names
    ]


def _against_config(model: nn.Module, bundle: AdapterBundle) -> list[tuple[str, str]]:
    """Contradictions between the file's config and its tensors.

    A target that matches no module is allowed in a file: PEFT keeps names that it did not find.
    """
    meant, _ = target_names(model, bundle.config)
    modules = dict(model.named_modules())
    return [(name, _MISSING) for name in meant if name not in bundle.adapters] + [
        (name, "is in the file, but not a target module of its config")
        for name in bundle.adapters
        if name in modules and name not in meant
    ]


def _place_trained(
    placement: Placement, modules: Mapping[str, nn.Module], bundle: AdapterBundle
) -> tuple[Slot, ...]:
    slots = []
    owners = [name.rpartition(".")[0] for name in bundle.trained]
    hints = _hints([owner for owner in owners if owner not in modules], modules)
    for name, value in bundle.trained.items():
        owner, _, leaf = name.rpartition(".")
        module = modules.get(owner)
        tensors = {**module._parameters, **module._buffers} if module is not None else {}
        here = tensors.get(leaf)
        if owner in bundle.adapters and not is_bias(leaf):
            text = (
                "is the base weight of an adapted module and differs from this model's; load the "
                "base that the adapter was trained on, with the same resized vocabulary"
            )
            placement.problems.append((name, text))
        elif module is None or here is None:
            text = f"is unexpected: the model has no such parameter{hints.get(owner, '')}"
            placement.problems.append((name, f"{text}; load a base with that head"))
        elif here.shape != value.shape:
            labels = here.ndim == 2 and here.shape[1:] == value.shape[1:]
            hint = f"; load the base with num_labels={value.shape[0]}" if labels else ""
            expected, got = tuple(here.shape), tuple(value.shape)
            text = f"has a size mismatch: expected {expected}, got {got}{hint}"
            placement.problems.append((name, text))
        else:
            slots.append((module, leaf))
    placement.problems += _missing_saved_tensors(modules, bundle)
    return tuple(slots)


def _missing_saved_tensors(
    modules: Mapping[str, nn.Module], bundle: AdapterBundle
) -> list[tuple[str, str]]:
    """Tensors of `modules_to_save` in the config that are missing from the file.

    Names without a module are allowed: PEFT writes "classifier" and "score" for every classifier.
    """
    saved = bundle.config.modules_to_save or ()
    return [
        (f"{name}.{leaf}", "is in modules_to_save of the file's config, but missing from the file")
        for name, module in modules.items()
        if any(matches_suffix(name, pattern) for pattern in saved)
        for leaf in module.state_dict()
        if f"{name}.{leaf}" not in bundle.trained
    ]


def without_base_copies(model: nn.Module, bundle: AdapterBundle) -> AdapterBundle:
    """The bundle without base weights that are bit-identical to the model's.

    With an adapted embedding PEFT also stores its whole weight, and after resizing the head's; a
    weight that equals the model's is neither trained nor part of the adapter.
    """
    here, copied = model.state_dict(), set(trained_copies.names(model))
    saved = bundle.config.modules_to_save or ()
    kept = {
        name: value
        for name, value in bundle.trained.items()
        if name in copied
        or name.rpartition(".")[2] != "weight"
        or any(f".{pattern}." in f".{name}" for pattern in saved)
        or not _is_same(here.get(name), value, name.rpartition(".")[0] in bundle.adapters)
    }
    return replace(bundle, trained=kept)


def _is_same(here: Tensor | None, value: Tensor, adapted: bool) -> bool:
    """Whether the values are equal; an adapted weight on the meta device counts as equal."""
    if here is None or here.shape != value.shape:
        return False
    if here.is_meta:
        return adapted
    return torch.equal(here, value.to(here.device, here.dtype))


def _missing_from_checkpoint(model: nn.Module, bundle: AdapterBundle) -> list[tuple[str, str]]:
    """Newly initialized base weights that the adapter does not contain either."""
    text = "is newly initialized: it is missing from the base checkpoint and from the adapter"
    layers = conversion.lora_layers(model)
    own = {f"{name}.{leaf}" for name, layer in layers for leaf in layer.tensor_names}
    return [
        (name, text) for name in unloaded(model) if name not in bundle.trained and name not in own
    ]


def _config_here(bundle: AdapterBundle, placed: Mapping[str, ModuleAdapter]) -> LoraConfig:
    """The bundle's config with the slices that were resolved."""
    found = {n: x.site.slices for n, x in placed.items() if x.site and x.site.slices}
    return bundle.config.replace(slices=found) if found else bundle.config
