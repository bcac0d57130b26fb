"""Match an adapter to the modules of a model, and list every mismatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import compare
from lorakit.config import ALL_LINEAR, LoraConfig
from lorakit.functional.initialise import adapter_dtype
from lorakit.injection import trained_copies
from lorakit.injection.selection.architectures import unloaded
from lorakit.injection.selection.matching import target_names
from lorakit.injection.selection.parameters import as_layers
from lorakit.injection.selection.token_rows import rows_refusal
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.injection.transfer.resolution import format_shapes, resolve_adapter
from lorakit.injection.transfer.size_hints import SizeHints
from lorakit.injection.transfer.token_rows import contrary_rows, with_tied_rows
from lorakit.injection.transfer.trained_tensors import closest, place_trained
from lorakit.layer_groups import without_indices
from lorakit.layers import conversion, refusals
from lorakit.layers.base import AdapterLayer
from lorakit.layers.readers import reader_problem
from lorakit.variants import ModuleAdapter, ParameterSite, RowsSite
from lorakit.variants.parameter_site import parameters_of
from lorakit.variants.trainable_tokens import rows_of

_MISSING = "is a target module, but missing from the file"


@dataclass
class Placement:
    """Settings and values for each module, and every mismatch."""

    config: LoraConfig
    adapters: dict[str, ModuleAdapter] = field(default_factory=dict)
    """By module name, with copies of the tensors for the module's device."""
    trained: dict[str, Slot] = field(default_factory=dict)
    """The places of the tensors that are trained in full, by name."""
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(name, what is wrong with it) pairs."""
    base_verified: bool | None = None
    modules: dict[str, nn.Module] = field(default_factory=dict)
    """The module of each adapter, by name."""


def place(model: nn.Module, bundle: AdapterBundle) -> Placement:
    """Match the bundle to the model without changing it."""
    bundle = replace(bundle, adapters=with_tied_rows(model, bundle.adapters))
    modules = dict(model.named_modules(remove_duplicate=False))
    modules |= as_layers(model, parameters_of(bundle.adapters))
    adapted = dict(conversion.lora_layers(model))
    placement, sizes = Placement(bundle.config), SizeHints(model)
    missing = []
    for name, adapter in bundle.adapters.items():
        module = modules.get(name)
        if module is None:
            missing.append(name)
            continue
        problem = _place_adapter(placement, model, name, module, adapter, sizes)
        if problem:
            placement.problems.append((name, problem))
    placement.problems += contrary_rows(model, placement.adapters)
    placement.problems += _unexpected_modules(missing, modules)
    placement.problems += _missing_adapters(model, bundle, adapted)
    placement.trained, problems = place_trained(modules, bundle, sizes)
    placement.problems += problems
    placement.problems += [
        (name, "is trained in full in this model, but missing from the file")
        for name in trained_copies.names(model)
        if name not in bundle.trained
    ]
    placement.problems += _missing_from_checkpoint(model, bundle)
    placement.config = _config_here(bundle, placement.adapters)
    if placement.adapters.keys() == bundle.adapters.keys():
        rows = rows_of(bundle.adapters)
        weights = {
            name: conversion.base_weight(modules[name]).detach()
            for name in bundle.adapters
            if name not in rows
        }
        placement.base_verified = compare(bundle.fingerprint, weights)
        if bundle.renamed and not placement.base_verified:  # it was taken under the file's names
            before = {bundle.renamed.get(name, name): weight for name, weight in weights.items()}
            placement.base_verified = compare(bundle.fingerprint, before)
    return placement


def _unexpected_modules(
    names: list[str], modules: Mapping[str, nn.Module]
) -> list[tuple[str, str]]:
    """Messages for modules that the model lacks; similar layers share one suggestion."""
    hints = closest(names, modules)
    return [(name, f"is unexpected: the model has no such module{hints[name]}") for name in names]


def _place_adapter(
    placement: Placement,
    model: nn.Module,
    name: str,
    module: nn.Module,
    adapter: ModuleAdapter,
    sizes: SizeHints,
) -> str | None:
    """Match one module; returns what is wrong with it, if anything."""
    layer = module if isinstance(module, AdapterLayer) and not module.is_shared else None
    if isinstance(adapter.site, RowsSite):
        if reason := rows_refusal(model, name):
            return reason
    elif layer is None:
        parent, _, child = name.rpartition(".")
        dropout = _dropout(placement.config, adapter)
        reason = refusals.refusal(module)
        owner, changes_bias = model.get_submodule(parent), adapter.variant.changes_bias
        reason = reason or reader_problem(owner, child, dropout, changes_bias)
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
        hint = sizes.of(name, weight, adapter.site.weight_shape) if adapter.site else ""
        return (
            f"has a size mismatch: expected {format_shapes(expected)} (rank {spec.r}, weight "
            f"{weight}), got {format_shapes(adapter.shapes)}{hint}"
        )
    dropout = _dropout(placement.config, adapter_here)
    spec = replace(spec, lora_dropout=dropout, merge_weights=placement.config.merge_weights)
    tensors = {leaf: _master(module, tensor) for leaf, tensor in adapter.tensors.items()}
    placement.modules[name] = module
    placed = placement.adapters[name] = replace(adapter_here, spec=spec, tensors=tensors)
    return _difference(layer, placed) if layer is not None else None


def _dropout(config: LoraConfig, adapter: ModuleAdapter) -> float:
    takes_dropout = adapter.variant.takes_dropout and not isinstance(adapter.site, ParameterSite)
    return config.lora_dropout if takes_dropout else 0.0


def _difference(layer: AdapterLayer, placed: ModuleAdapter) -> str | None:
    """Why the values do not fit the existing adapter."""
    assert placed.site is not None
    here, there = layer.scaled_spec, placed.spec
    for what, mine, theirs in (
        ("variant", here.variant, there.variant),
        ("rank", here.r, there.r),
        ("scaling", here.scaling, there.scaling),
        ("slices", layer.site.slices, placed.site.slices),
        ("the rows", layer.site.rows, placed.site.rows),
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
    meant = dict.fromkeys(target_names(model, bundle.config)[0])
    modules, rows = dict(model.named_modules()), rows_of(bundle.adapters)
    parameters = set(parameters_of(bundle.adapters))
    return [(name, _MISSING) for name in meant if name not in bundle.adapters] + [
        (name, "is in the file, but not a target module of its config")
        for name in bundle.adapters
        if (name in modules or name in parameters) and name not in meant and name not in rows
    ]


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
