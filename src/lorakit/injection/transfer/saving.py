"""From an adapted model to an AdapterBundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import fingerprint
from lorakit.checkpoint.settings import bias_of, modules_of, target_fields, with_settings_of
from lorakit.config import Bias, LoraConfig, is_bias, is_number
from lorakit.errors import SaveError, StateError
from lorakit.injection import trained_copies
from lorakit.injection.record import Injection, injection_of, injections, require_enabled
from lorakit.injection.selection.naming import (
    ending_in_any,
    last_parts,
    shortest_suffixes,
    within_any,
)
from lorakit.injection.transfer.base_facts import base_facts
from lorakit.injection.transfer.resolution import format_shapes
from lorakit.injection.transfer.untying import require_apart
from lorakit.layer_groups import group_layers
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.wrappers import unwrapped
from lorakit.variants import LinearSite, ModuleAdapter, OutProjSite
from lorakit.variants.parameter_site import parameters_of
from lorakit.variants.trainable_tokens import rows_of


def bundle_of(model: nn.Module) -> AdapterBundle:
    """The adapter of this model; its tensors are the model's own, not copies.

    Raises StateError if the model has no adapters, inside `lorakit.disabled`, if adapters were
    removed or no longer fit their weights, or if what was loaded apart is tied again; SaveError for
    what a file cannot store.
    """
    require_enabled(model)
    _require_scalings(model)
    _require_all_adapters(model)
    require_apart(model)
    record, model = injection_of(model), unwrapped(model)
    layers = _without_tied_rows(dict(lora_layers(model)))
    attention = {n for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    adapters = {
        name: _adapter(layer, name.rpartition(".")[0] in attention)
        for name, layer in layers.items()
    }
    saved = _saved_modules(model, record)
    trained = _trained(model, saved)
    _require_savable(adapters, trained)
    return AdapterBundle(
        config=config_of(
            model, record.config if record else LoraConfig(), adapters, saved, trained
        ),
        adapters=adapters,
        trained=trained,
        fingerprint=fingerprint(base_weights(layers)),
        **base_facts(model, saved),
    )


def _require_all_adapters(model: nn.Module) -> None:
    """Raises StateError that lists adapters that are missing or no longer fit their weight."""
    modules = dict(model.named_modules(remove_duplicate=False))
    adapted = [
        f"{part}.{name}" if part else name
        for part, record in injections(model)
        for name in record.adapted
    ]
    problems = [
        (name, "was adapted, but has no adapter now: the module was replaced or restored")
        for name in adapted
        if not isinstance(modules.get(name), AdapterLayer)
    ]
    problems += [
        (name, problem)
        for name, layer in lora_layers(model)
        if (problem := _size_mismatch(layer)) is not None
    ]
    if problems:
        raise StateError(
            "The model has changed since lorakit.inject. Change it before (for instance with "
            "resize_token_embeddings), not after:",
            group_layers(problems),
        )


def _size_mismatch(layer: AdapterLayer) -> str | None:
    """The message for an adapter whose weight has been resized; None if it fits."""
    weight = tuple(layer.base_weight.shape)
    site = layer.site if layer.site.weight_shape == weight else type(layer).site_of(layer)
    expected, shapes = layer.variant.shapes(site, layer.r), layer.adapter.shapes
    if shapes == expected:
        return None
    return (
        f"has a size mismatch: expected {format_shapes(expected)} (rank {layer.r}, weight "
        f"{weight}), got {format_shapes(shapes)}"
    )


def _require_scalings(model: nn.Module) -> None:
    """Raises SaveError that lists each `scaling` that was set to what no file can store."""
    problems = [
        (name, f"has scaling {layer.scaling!r}, and a file can only store a number > 0")
        for name, layer in lora_layers(unwrapped(model))
        if layer.r and not (is_number(layer.scaling) and layer.scaling > 0)
    ]
    if problems:
        raise SaveError("This adapter cannot be saved:", group_layers(problems))


def _require_savable(adapters: Mapping[str, ModuleAdapter], trained: Mapping[str, Tensor]) -> None:
    """Raises SaveError that lists what has no data and what an adapter file cannot store."""
    problems = [
        (name, "is on the meta device, so it has no data to save")
        for name, adapter in adapters.items()
        if adapter.is_meta
    ]
    for name, tensor in trained.items():
        owner, _, leaf = name.rpartition(".")
        if owner in adapters and not is_bias(leaf):
            text = "is the trainable weight of an adapted module, which no adapter file can store"
            problems.append((name, text))
        elif tensor.is_meta:
            problems.append((name, "is on the meta device, so it has no data to save"))
    if problems:
        raise SaveError("This adapter cannot be saved:", group_layers(problems))


def _without_tied_rows(layers: dict[str, AdapterLayer]) -> dict[str, AdapterLayer]:
    """The layers without those whose rows are another one's, since their weights are tied."""
    first: dict[int, str] = {}
    rows = rows_of(layers)
    for name in rows:
        first.setdefault(id(layers[name].adapter_tensors()[0]), name)
    names = set(first.values())
    return {name: x for name, x in layers.items() if name in names or name not in rows}


def base_weights(layers: dict[str, AdapterLayer]) -> dict[str, Tensor]:
    """The frozen weight of each layer that is adapted as a whole by module name.

    A resized vocabulary has rows that are drawn anew each time.
    """
    rows = rows_of(layers)
    return {name: x.base_weight.detach() for name, x in layers.items() if name not in rows}


def _adapter(layer: AdapterLayer, under_attention: bool) -> ModuleAdapter:
    adapter = layer.adapter
    site, tensors = adapter.site, {n: t.detach() for n, t in adapter.tensors.items()}
    if under_attention and isinstance(site, LinearSite):
        site = OutProjSite(site.in_features, site.out_features, site.transposed)
    return replace(adapter, tensors=tensors, site=site)


def _saved_modules(model: nn.Module, record: Injection | None) -> list[str]:
    """Names of modules that are trained in full: `modules_to_save`, and what the user unfroze."""
    patterns = record.config.modules_to_save if record else None
    there = [name for name, _ in model.named_modules()]
    names = dict.fromkeys(ending_in_any(there, patterns or ()))
    for name, module in model.named_modules():
        loose = [
            leaf
            for leaf, parameter in module._parameters.items()
            if parameter is not None
            and parameter.requires_grad
            and not _is_adapter(module, leaf)
            and not is_bias(leaf)
        ]
        # The root module has no name to list; its own parameters are saved by their names.
        if loose and name and not within_any(name, names) and not _is_adapted(module):
            names[name] = None
    return list(names)


def _trained(model: nn.Module, saved: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of these modules, every trainable bias, and other trainable parameters.

    Those are parameters of the root module, or the weight of an adapted module.
    """
    state = model.state_dict(keep_vars=True)
    prefixes = tuple(f"{name}." for name in saved)
    copied = set(trained_copies.names(model))
    alone = {
        f"{owner}.{leaf}" if owner else leaf
        for owner, module in model.named_modules()
        if not owner or _is_adapted(module)
        for leaf, parameter in module._parameters.items()
        if parameter is not None and parameter.requires_grad and not _is_adapter(module, leaf)
    }
    return {
        name: tensor.detach()
        for name, tensor in state.items()
        if (prefixes and name.startswith(prefixes))
        or name in copied
        or name in alone
        or (is_bias(name.rpartition(".")[2]) and tensor.requires_grad)
    }


def _is_adapter(module: nn.Module, leaf: str) -> bool:
    return isinstance(module, AdapterLayer) and leaf in module.tensor_names


def _is_adapted(module: nn.Module) -> bool:
    return isinstance(module, AdapterLayer) and module.r > 0


def config_of(
    model: nn.Module,
    config: LoraConfig,
    adapters: Mapping[str, ModuleAdapter],
    saved: Sequence[str],
    trained: Mapping[str, Tensor],
) -> LoraConfig:
    """`config`, which selects exactly these adapters of the model's modules again."""
    sites, parameters = modules_of(adapters), parameters_of(adapters)
    return with_settings_of(config, adapters).replace(
        **target_fields(
            _target_modules(model, sites) if sites else None,
            _target_parameters(model, parameters) if parameters else None,
        ),
        exclude_modules=None,
        layers_to_transform=None,
        layers_pattern=None,
        modules_to_save=saved or None,
        bias=_bias(sites, saved, trained),
    )


def _bias(adapted: Iterable[str], saved: Sequence[str], trained: Mapping[str, Tensor]) -> Bias:
    """Which biases the saved tensors are, apart from those of modules that are saved in full."""
    inside = tuple(f"{name}." for name in saved)
    owners = {
        module
        for module, _, leaf in (name.rpartition(".") for name in trained)
        if is_bias(leaf) and not f"{module}.".startswith(inside or ("\0",))
    }
    return bias_of(owners, adapted)


def _target_modules(model: nn.Module, layers: Iterable[str]) -> list[str] | str:
    """`target_modules` that match these layers and no others."""
    parents = {name: model.get_submodule(name.rpartition(".")[0]) for name in layers}
    names = [
        name.rpartition(".")[0] if isinstance(parents[name], nn.MultiheadAttention) else name
        for name in parents
    ]
    return shortest_suffixes(model, list(dict.fromkeys(names)))


def _target_parameters(model: nn.Module, names: list[str]) -> list[str]:
    """`target_parameters` that match these and no others: the shortest endings, or their names."""
    everything = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    endings = list(dict.fromkeys(last_parts(name, 2) for name in names))
    return endings if set(ending_in_any(everything, endings)) == set(names) else names
