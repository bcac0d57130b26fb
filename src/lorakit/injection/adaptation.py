"""Adapt a live model in place, and take the adapters out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.config import LoraConfig
from lorakit.errors import StateError
from lorakit.injection import copies
from lorakit.injection.report import Report, describe
from lorakit.injection.selection import Selection, select
from lorakit.layers.base import LoraLayer
from lorakit.layers.conversion import adapt, lora_layers, require_plain_form, restore
from lorakit.layers.readers import expose_if_read

Factors = Mapping[str, tuple[Tensor, Tensor]]

_RECORD = "_lorakit_record"


@dataclass(frozen=True)
class Record:
    """What `eject` and `save_adapter` need to know of an injection; kept on the model itself."""

    config: LoraConfig
    required_grad: Mapping[str, bool]
    """Whether each parameter required a gradient before."""


def inject(model: nn.Module, config: LoraConfig) -> Report:
    """Put `scaling * B @ A` beside the weights that `config` names, and freeze all others.

    In place: every parameter keeps its name, every module and Parameter is the same object, apart
    from what `modules_to_save` and `bias` train, where a copy takes the original's place. The
    output does not change, bit for bit, as B starts at zero.

    Raises TargetError that lists every pattern without a match and every module that cannot be
    adapted, StateError if the model has adapters already. The model is then as it was.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> report = inject(model, LoraConfig(r=2, target_modules=["0"]))
    >>> report.trainable_parameters
    16
    """
    adapted = [name for name, _ in lora_layers(model)]
    if adapted:
        raise StateError(
            f"This model has {len(adapted)} adapted layers already ({adapted[0]}, ...). "
            "Take them out with lorakit.eject, or make them part of the weights with lorakit.fold."
        )
    return install(model, config, select(model, config))


def install(
    model: nn.Module, config: LoraConfig, selection: Selection, factors: Factors | None = None
) -> Report:
    """Carry out a selection; `factors` gives A and B of some modules by name."""
    required_grad = {n: p.requires_grad for n, p in model.named_parameters(remove_duplicate=False)}
    model.__dict__[_RECORD] = Record(config, required_grad)
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for target in selection.targets:
            adapt(target.module, target.spec, (factors or {}).get(target.name))
            parent, _, child = target.name.rpartition(".")
            expose_if_read(model.get_submodule(parent), child, target.module)
        copies.make(model, selection.trained)
        _let_checkpoints_backpropagate(model)
    except BaseException:
        eject(model)
        raise
    return describe(model)


def eject(model: nn.Module) -> None:
    """Take every adapter out: the original classes, Parameter objects and requires_grad flags.

    Base weights are bit-identical to what they were before `inject`. What the adapters learned is
    gone from the model; `save_adapter` before keeps it, `fold` makes it part of the weights.

    Raises StateError if nothing is adapted, or inside `lorakit.disabled`.
    """
    layers = require_enabled(model)
    require_plain_form(layers)
    copies.require_values(model)
    for _, module in copies.owners(model):
        copies.swap(module)
    copies.forget(model)
    for layer in layers:
        restore(layer)
    close_record(model)


def close_record(model: nn.Module) -> None:
    """Give requires_grad back as it was, and forget the injection."""
    for owner in model.modules():
        record = owner.__dict__.pop(_RECORD, None)
        if record is None:
            continue
        for name, parameter in owner.named_parameters(remove_duplicate=False):
            if name in record.required_grad:
                parameter.requires_grad_(record.required_grad[name])
        for module in owner.modules():
            for key, hook in list(module._forward_hooks.items()):
                if hook is _require_grad:
                    del module._forward_hooks[key]


def record_of(model: nn.Module) -> Record | None:
    """The record of the injection into this model or into a part of it."""
    return next((m.__dict__[_RECORD] for m in model.modules() if _RECORD in m.__dict__), None)


def require_adapters(model: nn.Module) -> list[LoraLayer]:
    """The adapted layers; raises StateError if there are none."""
    layers = [layer for _, layer in lora_layers(model)]
    if not layers and record_of(model) is None:
        raise StateError(
            f"This {type(model).__name__} has no adapters. Add them with lorakit.inject or "
            "lorakit.load_adapter."
        )
    return layers


def require_enabled(model: nn.Module) -> list[LoraLayer]:
    """The adapted layers; raises StateError if there are none, or they are switched off."""
    layers = require_adapters(model)
    if not all(layer.active for layer in layers):
        raise StateError(
            "The adapters are switched off, and the original heads and biases are in their "
            "place; leave `with lorakit.disabled(model)` first."
        )
    return layers


def _let_checkpoints_backpropagate(model: nn.Module) -> None:
    """Make re-entrant gradient checkpointing see an input that requires a gradient.

    It records nothing if no input of a block does, and with a frozen base none would. transformers
    takes care of this for models of token ids (`gradient_checkpointing_enable`), not for others,
    nor for the parts of a model that take something else, such as Whisper's encoder.
    """
    embeddings = {
        _input_embeddings(part): None
        for part in model.modules()
        if getattr(part, "main_input_name", "input_ids") != "input_ids"
    }
    for module in embeddings:
        if isinstance(module, nn.Module):
            module.register_forward_hook(_require_grad)


def _input_embeddings(model: nn.Module) -> object:
    """transformers' `get_input_embeddings`; None for a model that has none."""
    get_embeddings = getattr(model, "get_input_embeddings", None)
    try:
        return get_embeddings() if get_embeddings else None
    except NotImplementedError:
        return None


def _require_grad(module: nn.Module, args: object, output: object) -> None:
    if torch.is_grad_enabled() and module.training and isinstance(output, Tensor):
        output.requires_grad_(True)
