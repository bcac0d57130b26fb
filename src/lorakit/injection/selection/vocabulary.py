"""The modules of a model that have a row for each token: its input embeddings and its head."""

from __future__ import annotations

from typing import Any

from torch import nn

from lorakit.surgery.ties import storage_key


def input_embeddings(model: nn.Module) -> nn.Module | None:
    """transformers' `get_input_embeddings`; None for a model that has none."""
    return _answer(model, "get_input_embeddings")


def output_embeddings(model: nn.Module) -> nn.Module | None:
    """transformers' `get_output_embeddings`: the head that gives a logit for each token."""
    return _answer(model, "get_output_embeddings")


def _answer(model: nn.Module, method: str) -> nn.Module | None:
    asked = getattr(model, method, None)
    try:
        found = asked() if asked is not None else None
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def vocabulary_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Input embeddings, head, and modules whose weights are tied to theirs, by name."""
    ends = [input_embeddings(model), output_embeddings(model)]
    weights = {
        storage_key(weight)
        for end in ends
        if end is not None and (weight := end._parameters.get("weight")) is not None
    }
    return {
        name: module
        for name, module in model.named_modules()
        if (weight := module._parameters.get("weight")) is not None
        and storage_key(weight) in weights
    }


def checkpoint_config(model: nn.Module) -> Any:
    """The config of the checkpoint that a transformers model was loaded from.

    None for a model that was not loaded, and where that config is not on this machine.
    """
    config: Any = getattr(model, "config", None)
    source = getattr(config, "name_or_path", None)
    if not source or not hasattr(config, "get_text_config"):  # none of transformers' configs
        return None
    try:
        return type(config).from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return None


def new_rows(model: nn.Module) -> dict[str, range]:
    """The rows that `resize_token_embeddings` has made since loading, by module that has some.

    Empty where the checkpoint's config is unknown.
    """
    made = _resized(model, checkpoint_config(model))
    sizes = {name: height(module) for name, module in vocabulary_modules(model).items() if made}
    return {name: made for name, size in sizes.items() if size == made.stop}


def _resized(model: nn.Module, checkpoint: Any) -> range:
    """From the checkpoint's size of the vocabulary to the model's, by their configs."""
    if checkpoint is None:
        return range(0)
    config: Any = model.config
    before, now = (getattr(c.get_text_config(), "vocab_size", None) for c in (checkpoint, config))
    return range(before or 0, now or 0)


def height(module: nn.Module) -> int:
    """The number of rows of a module of the vocabulary."""
    weight = module._parameters["weight"]
    assert weight is not None
    return weight.shape[0]


def is_resized_head(model: nn.Module, name: str) -> bool:
    """Whether this is the parameter of a head of the checkpoint that resizing has made anew.

    It does not have the mark of a loaded one then.
    """
    head = output_embeddings(model)
    if head is None or model.get_submodule(name.rpartition(".")[0]) is not head:
        return False
    checkpoint = checkpoint_config(model)
    if checkpoint is None or type(model).__name__ not in (checkpoint.architectures or ()):
        return False
    made = _resized(model, checkpoint)
    return made.start != made.stop
