"""`lorakit.inject` and `lorakit.eject`: adapt a live model in place, and restore it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, StateError
from lorakit.injection import trained_copies
from lorakit.injection.inspection.health import mark_training_start
from lorakit.injection.inspection.report import Report, describe
from lorakit.injection.selection.matching import Selection, select
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import adapt, lora_layers, require_plain_form, restore
from lorakit.layers.readers import merge_on_read
from lorakit.surgery.alteration import alteration, altered, forget


@dataclass(frozen=True)
class Injection:
    """What `eject` and `save_adapter` need to know; stored in the model's `Alteration`."""

    config: LoraConfig
    required_grad: Mapping[str, bool]
    """Whether each parameter required a gradient before."""
    adapted: tuple[str, ...]
    """Names of the adapted modules, relative to the model that has this record."""
    model_class: str
    """The class of the model that was injected."""


def inject(model: nn.Module, config: LoraConfig) -> Report:
    """Add a trainable `scaling * B @ A` to the weights that `config` targets; freeze all others.

    In place: every parameter keeps its name, and every module and Parameter is the same object,
    except those trained by `modules_to_save` and `bias`, which are replaced by trainable copies.
    The output is bit-identical, since B is zero at first.

    Raises TargetError that lists every pattern without a match and every module that cannot be
    adapted, StateError if the model has adapters or trained copies already, ConfigError for a
    config that is no LoraConfig. The model is then as it was.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> report = inject(model, LoraConfig(r=2, target_modules=["0"]))
    >>> report.trainable_parameters
    16
    """
    _require_config(config)
    adapted = [name for name, _ in lora_layers(model)]
    if adapted:
        raise StateError(
            f"This model already has {len(adapted)} adapted layers ({adapted[0]}, ...). "
            "Remove the adapters with lorakit.eject, or merge them into the weights with "
            "lorakit.fold."
        )
    if trained := trained_copies.names(model):
        raise StateError(
            f"This model already trains {len(trained)} tensors in full ({trained[0]}, ...). Remove "
            "the trained copies with lorakit.eject, or keep their values with lorakit.fold."
        )
    install(model, config, select(model, config))
    return describe(model)


def _require_config(config: object) -> None:
    if not isinstance(config, LoraConfig):
        kind = type(config)
        raise ConfigError(
            f"The config is a {kind.__module__}.{kind.__qualname__}; pass a lorakit.LoraConfig, "
            "whose fields have PEFT's names: lorakit.LoraConfig(r=8, target_modules=[...]), or "
            "lorakit.LoraConfig(**fields) for a dict of them."
        )


def install(
    model: nn.Module,
    config: LoraConfig,
    selection: Selection,
    values: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Adapt the selected modules; `values` has the adapter tensors of some modules by name."""
    required_grad = {n: p.requires_grad for n, p in model.named_parameters(remove_duplicate=False)}
    names = tuple(target.name for target in selection.targets)
    injection = Injection(config, required_grad, names, type(model).__name__)
    altered(model).injection = injection
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for target in selection.targets:
            adapt(target.module, target.spec, target.site, (values or {}).get(target.name))
            altered(target.module).part_of = injection
            parent, _, child = target.name.rpartition(".")
            merge_on_read(model.get_submodule(parent), child, target.module)
        trained_copies.make(model, selection.trained)
        _let_checkpoints_backpropagate(model)
        mark_training_start(model)
    except BaseException:
        eject(model)
        raise


def eject(model: nn.Module) -> None:
    """Remove every adapter; restore the original classes, Parameters and requires_grad flags.

    Base weights are bit-identical to those before `inject`. The weights of the adapters are lost:
    save them first with `save_adapter`, or merge them into the base with `fold` instead.

    Raises StateError if nothing is adapted, inside `lorakit.disabled`, or for a submodule of the
    model that was injected.
    """
    layers = require_whole(model)
    require_plain_form(layers)
    trained_copies.require_values(model)
    for module in trained_copies.holders(model):
        trained_copies.swap(module)
    trained_copies.forget(model)
    for layer in layers:
        restore(layer)
    close(model)


def close(model: nn.Module) -> None:
    """Restore requires_grad and remove the record of the injection."""
    for module in model.modules():
        record = alteration(module)
        if record is not None and record.injection is not None:
            for name, parameter in module.named_parameters(remove_duplicate=False):
                if name in record.injection.required_grad:
                    parameter.requires_grad_(record.injection.required_grad[name])
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, _RequireGrad):
                del module._forward_hooks[key]
        forget(module)


def injection_of(model: nn.Module) -> Injection | None:
    """The injection into this model or one of its submodules; None if there is none."""
    return next((injection for _, injection in injections(model)), None)


def injections(model: nn.Module) -> Iterator[tuple[str, Injection]]:
    """(name, injection) of every injection into this model or one of its submodules."""
    for name, module in model.named_modules():
        record = alteration(module)
        if record is not None and record.injection is not None:
            yield name, record.injection


def require_adapters(model: nn.Module) -> list[AdapterLayer]:
    """The adapted layers; raises StateError if there are none."""
    layers = [layer for _, layer in lora_layers(model)]
    if not layers and injection_of(model) is None:
        raise StateError(
            f"This {type(model).__name__} has no adapters. Add them with lorakit.inject or "
            "lorakit.load_adapter."
        )
    return layers


def require_enabled(model: nn.Module) -> list[AdapterLayer]:
    """The adapted layers; raises StateError if there are none, or they are disabled."""
    layers = require_adapters(model)
    if not all(layer.active for layer in layers) or not trained_copies.in_place(model):
        raise StateError(
            "The adapters are disabled, and the original heads and biases are in use; exit "
            "`with lorakit.disabled(model)` first."
        )
    return layers


def require_whole(model: nn.Module) -> list[AdapterLayer]:
    """As `require_enabled`; also raises StateError for a submodule of the injected model."""
    layers = require_enabled(model)
    here = {id(injection) for _, injection in injections(model)}
    records = filter(None, map(alteration, layers))
    made_by = [record.part_of for record in records if record.part_of is not None]
    whole = next(
        (injection.model_class for injection in made_by if id(injection) not in here), None
    )
    if whole is not None:
        raise StateError(
            f"This {type(model).__name__} is a submodule of the {whole} that was passed to "
            f"lorakit.inject, and can only be restored with it; pass the {whole}."
        )
    return layers


def _let_checkpoints_backpropagate(model: nn.Module) -> None:
    """Let re-entrant gradient checkpointing see an input that requires a gradient.

    It computes no gradient if no input of a block requires one, and with a frozen base none does.
    transformers handles this for models of token ids (`gradient_checkpointing_enable`), not for
    others, nor for submodules with other inputs, such as Whisper's encoder. Without checkpointing
    the input requires no gradient, so backward ends at the first adapter.
    """
    embeddings = {
        _input_embeddings(part): None
        for part in model.modules()
        if getattr(part, "main_input_name", "input_ids") != "input_ids"
    }
    switches = [module for module in model.modules() if hasattr(module, _CHECKPOINTING)]
    for module in embeddings:
        if isinstance(module, nn.Module):
            module.register_forward_hook(_RequireGrad(switches))


def _input_embeddings(model: nn.Module) -> object:
    """transformers' `get_input_embeddings`; None for a model that has none."""
    get_embeddings = getattr(model, "get_input_embeddings", None)
    try:
        return get_embeddings() if get_embeddings else None
    except NotImplementedError:
        return None


_CHECKPOINTING = "gradient_checkpointing"
"""The flag of transformers on modules that support gradient checkpointing."""


@dataclass(frozen=True, eq=False)
class _RequireGrad:
    """A forward hook; an object and not a closure, so that a copied model looks at its own."""

    switches: list[nn.Module]

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        if not (torch.is_grad_enabled() and module.training and isinstance(output, Tensor)):
            return
        if any(getattr(switch, _CHECKPOINTING) for switch in self.switches):
            output.requires_grad_(True)
