"""`lorakit.fold`: merge the adapters into the weights, for deployment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lorakit.errors import TargetError
from lorakit.functional.merge import merge
from lorakit.injection import trained_copies
from lorakit.injection.declared_ties import take_back
from lorakit.injection.installation import close
from lorakit.injection.modes import MergeReport, merge_report
from lorakit.injection.record import require_whole
from lorakit.layer_groups import group_layers
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers, require_plain_form, restoration
from lorakit.layers.embedding import Embedding
from lorakit.private.transformers_names import tied_weights
from lorakit.surgery.additions import owners
from lorakit.surgery.alteration import altered
from lorakit.surgery.atomicity import complete
from lorakit.surgery.parameters import parameter_like
from lorakit.surgery.rounded_reads import rounded_parameters, store
from lorakit.surgery.ties import storage_key


def fold(model: nn.Module) -> MergeReport:
    """Replace each adapted weight of `model` by W + scaling * B A; this cannot be undone.

    All or nothing: every sum is formed before the first layer changes, which takes the memory of
    the adapted weights once more, and an interrupt is raised when all is done. The old weight
    tensors are not modified, so other references to them stay valid. A weight that was tied to
    another module's is thereby untied, and a transformers config is updated
    (`tie_word_embeddings = False`), unless the model computes its logits by that. It applies to all
    tied weights of the model, so the others become copies too.

    Returns how much of each update is lost to rounding in the weight's dtype. Raises StateError if
    the model has no adapters, inside `lorakit.disabled` or for a submodule of the model that was
    injected, TargetError for an embedding with max_norm and for added modules, which no weight can
    hold.
    """
    require_plain_form(require_whole(model))
    require_weights_hold(model)
    layers = dict(lora_layers(model))
    report = merge_report(model)
    before = _memory(model, trained_copies.originals(model))
    with torch.no_grad():
        weights = _folded_weights(layers.values())
        biases = _folded_biases(layers.values())
    complete(
        [
            partial(store, rounded_parameters(model)),  # first: some have to be folded, too
            *(restoration(layer, weight) for layer, weight in weights.items()),
            *(partial(layer._parameters.update, bias=bias) for layer, bias in biases.items()),
            partial(trained_copies.forget, model),
            partial(close, model),
            partial(_untie_all, model, before),
        ]
    )
    return report


def require_weights_hold(model: nn.Module) -> None:
    """Raise TargetError that lists what of an adapted model no weight can hold."""
    problems = group_layers(
        (f"{name}.{child}", "is computed beside the weights, and none of them can hold it")
        for name, owner in owners(model)
        for child in altered(owner).added
    )
    problems += [
        f"{name} is an embedding with max_norm, which rescales each row before the update is added"
        for name, layer in lora_layers(model)
        if isinstance(layer, Embedding) and layer.max_norm is not None
    ]
    problems += group_layers(
        (name, f"has {layer.variant.title}, and no bias of its own that could hold it")
        for name, layer in lora_layers(model)
        if layer.variant.changes_bias and layer._parameters.get("bias") is None
    )
    if problems:
        raise TargetError("Some of what was learned cannot be merged into weights:", problems)


def _folded_weights(layers: Iterable[AdapterLayer]) -> dict[AdapterLayer, nn.Parameter]:
    """The new Parameter of each layer; one for layers that share their weight and their adapter."""
    made: dict[tuple[object, ...], nn.Parameter] = {}
    weights = {}
    for layer in layers:
        old = layer.base_weight
        sources = (storage_key(old), *map(id, layer.adapter_tensors()))
        if sources not in made:
            made[sources] = parameter_like(old, layer.folded_weight().contiguous())
        weights[layer] = made[sources]
    return weights


def _folded_biases(layers: Iterable[AdapterLayer]) -> dict[AdapterLayer, nn.Parameter]:
    """The new bias of each layer whose adapter changes it, in the dtype that it reads in."""
    biases = {}
    for layer in layers:
        delta, stored, read = layer.bias_delta(), layer._parameters.get("bias"), layer.base_bias
        if delta is not None and stored is not None and read is not None:
            biases[layer] = parameter_like(stored, merge(stored, delta).to(read.dtype))
    return biases


def _memory(model: nn.Module, instead: Mapping[str, Tensor]) -> dict[str, object]:
    """The storage of each parameter, or of the tensor in `instead` under its name."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {name: storage_key(instead.get(name, parameter)) for name, parameter in parameters}


def _was_untied(before: Mapping[str, object], now: Mapping[str, object]) -> bool:
    """Whether two parameters that were tied no longer are."""
    places: dict[object, set[object]] = {}
    for name, place in now.items():
        places.setdefault(before[name], set()).add(place)
    return any(len(here) > 1 for here in places.values())


def _untie_all(model: nn.Module, before: Mapping[str, object]) -> None:
    if _was_untied(before, _memory(model, {})):
        for module in model.modules():
            _untie(module)


def _untie(module: nn.Module) -> None:
    """Let a transformers model save and load each weight by itself."""
    tied = tied_weights(module)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    taken = {storage_key(parameters[source]) for source in tied.values() if source in parameters}
    for name in parameters.keys() & tied.keys():
        parameter = parameters[name]
        if storage_key(parameter) in taken:
            owner, _, leaf = name.rpartition(".")
            copy = parameter_like(parameter, parameter.detach().clone())
            module.get_submodule(owner)._parameters[leaf] = parameter = copy
        taken.add(storage_key(parameter))
    take_back(module)
