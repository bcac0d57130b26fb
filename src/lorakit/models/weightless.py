"""The model of a base on the meta device: names, shapes, ties and config, and no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import FormatError, MismatchError
from lorakit.injection.selection.vocabulary import vocabulary_modules
from lorakit.models.loading import base_class, class_for_task, load_config
from lorakit.surgery.ties import storage_key


def weightless_model(
    name: str, revision: str | None = None, bundle: AdapterBundle | None = None
) -> Any:
    """The model that `load_base` would load, on the meta device.

    Raises FormatError if there is no such model, MismatchError if it is of another kind than that
    of `bundle`.
    """
    model_class, config = base_class(name, revision, bundle)
    return _built(getattr(model_class, "from_config", model_class), config, name)


def weightless_for_task(
    name: str, auto_class: str, head: Mapping[str, Any], revision: str | None = None
) -> Any:
    """The model that `load_for_task` would load, on the meta device; raises FormatError as it."""
    model_class, config = class_for_task(name, auto_class, head, revision)
    return _built(model_class.from_config, config, name)


def counterpart(model: Any, name: str) -> Any:
    """The model of another base in the class of this one and with its labels, on the meta device.

    Raises FormatError if there is no such model, MismatchError if it is of another kind.
    """
    config = load_config(name)
    if not isinstance(config, model.config_class):
        raise MismatchError(
            f"{name} is a {config.model_type} model, which cannot be a {type(model).__name__}."
        )
    if config.num_labels != model.config.num_labels:
        config.num_labels = model.config.num_labels
    return _built(type(model), config, name)


def _built(make: Callable[[Any], Any], config: Any, name: str) -> Any:
    try:
        with torch.device("meta"):
            return make(config).eval()
    except Exception as error:  # a model's constructor raises whatever a broken config leads to
        raise FormatError(f"No model can be built from the config of {name}: {error}") from error


def vocabulary_tensors(model: nn.Module) -> list[str]:
    """The names of the parameters that have a row for each token, and of the head's bias."""
    return [
        f"{name}.{leaf}"
        for name, m in vocabulary_modules(model).items()
        for leaf in m._parameters
        if m._parameters[leaf] is not None
    ]


def give_values(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Let these parameters have values; what is tied to them is tied to these."""
    named = dict(model.named_parameters(remove_duplicate=False))
    made = {storage_key(named[name]): value for name, value in values.items()}
    parameters = {key: nn.Parameter(value, requires_grad=False) for key, value in made.items()}
    for name, old in _those(named, parameters):
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner)._parameters[leaf] = parameters[storage_key(old)]


def _those(
    named: Mapping[str, nn.Parameter], chosen: Mapping[object, object]
) -> Iterable[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in named.items() if storage_key(p) in chosen]
