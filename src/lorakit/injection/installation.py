"""Adapters into a model and out of it again, once it is known that they fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lorakit.config import LoraConfig
from lorakit.injection import trained_copies
from lorakit.injection.declared_ties import declare_again
from lorakit.injection.inspection.health import mark_training_start
from lorakit.injection.record import Injection
from lorakit.injection.selection.selected import Selection, Target
from lorakit.injection.selection.vocabulary import input_embeddings
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import adapt, lora_layers, restoration
from lorakit.layers.readers import merge_on_read
from lorakit.surgery.additions import Addition, attach, detach
from lorakit.surgery.alteration import alteration, altered, forget
from lorakit.surgery.atomicity import complete
from lorakit.surgery.ties import storage_key
from lorakit.variants import RowsSite


def install(
    model: nn.Module,
    config: LoraConfig,
    selection: Selection,
    values: Mapping[str, Mapping[str, Tensor]] | None = None,
    additions: Sequence[Addition] = (),
) -> None:
    """Adapt the selected modules, and add `additions` to the model.

    `values` has the adapter tensors of some modules by name.
    """
    required_grad = {n: p.requires_grad for n, p in model.named_parameters(remove_duplicate=False)}
    names = tuple(target.name for target in selection.targets)
    injection = Injection(config, required_grad, names, type(model).__name__)
    try:
        altered(model).injection = injection
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for target in selection.targets:
            adapt(target.module, target.spec, target.site, (values or {}).get(target.name))
            altered(target.module).part_of = injection
            parent, _, child = target.name.rpartition(".")
            merge_on_read(model.get_submodule(parent), child, target.module)
        _tie_rows(model, selection.targets)
        trained_copies.make(model, selection.trained)
        attach(additions)
        _let_checkpoints_backpropagate(model)
        mark_training_start(model)
    except BaseException:
        uninstall(model)
        raise


def _tie_rows(model: nn.Module, targets: Iterable[Target]) -> None:
    """Let what is tied to the input embeddings, and trains the same rows, share their values."""
    source = input_embeddings(model)
    if not isinstance(source, AdapterLayer) or not isinstance(source.site, RowsSite):
        return
    place = storage_key(source.base_weight)
    for target in targets:
        layer = target.module
        assert isinstance(layer, AdapterLayer)
        if layer.site == source.site and storage_key(layer.base_weight) == place:
            for name in layer.tensor_names:
                layer._parameters[name] = source._parameters[name]


def uninstall(model: nn.Module) -> None:
    """Give every module and Parameter back, whatever of an injection is there."""
    for module in trained_copies.holders(model):
        trained_copies.follow(module)
    complete(
        [
            partial(trained_copies.restore, list(trained_copies.holders(model))),
            partial(trained_copies.forget, model),
            *(restoration(layer) for _, layer in lora_layers(model)),
            partial(close, model),
        ]
    )


def close(model: nn.Module) -> None:
    """Restore requires_grad and remove the record of the injection."""
    for module in list(model.modules()):
        record = alteration(module)
        if record is not None and record.injection is not None:
            for name, parameter in module.named_parameters(remove_duplicate=False):
                if name in record.injection.required_grad:
                    parameter.requires_grad_(record.injection.required_grad[name])
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, _RequireGrad):
                del module._forward_hooks[key]
        for name in record.attributes if record is not None else ():
            module.__dict__.pop(name, None)
        detach(module)
        declare_again(module)
        forget(module)


def _let_checkpoints_backpropagate(model: nn.Module) -> None:
    """Let re-entrant gradient checkpointing see an input that requires a gradient.

    It computes no gradient if no input of a block requires one, and with a frozen base none does.
    transformers handles this for models of token ids (`gradient_checkpointing_enable`), not for
    others, nor for submodules with other inputs, such as Whisper's encoder. Without checkpointing
    the input requires no gradient, so backward ends at the first adapter.
    """
    embeddings = {
        input_embeddings(part): None
        for part in model.modules()
        if getattr(part, "main_input_name", "input_ids") != "input_ids"
    }
    switches = [module for module in model.modules() if hasattr(module, _CHECKPOINTING)]
    for module in embeddings:
        if isinstance(module, nn.Module):
            module.register_forward_hook(_RequireGrad(switches))


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
