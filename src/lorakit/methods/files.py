"""What a model has learned, to disk and back, whichever method prepared it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import FormatError, MismatchError, StateError, suggest
from lorakit.injection.transfer.loading import LoadReport
from lorakit.methods.registry import METHODS, method_of


def save_adapter(model: nn.Module, path: str | Path) -> Path:
    """Save A, B and everything else that trains as a PEFT directory, atomically.

    adapter_config.json, adapter_model.safetensors and a model card; other files there stay. The
    safetensors header also holds the config, the base's fingerprint and what fused slices need.
    A parameter that requires a gradient without being an adapter's is saved in full, like
    `modules_to_save`. Of torch.compile's and DataParallel's wrappers the model within is saved.
    What a method other than LoRA trained becomes trained.safetensors, whose header says the method.

    Raises StateError if the model has no adapters, inside `lorakit.disabled`, or if adapters of the
    injection are gone or no longer fit their weights; SaveError if something has no place in the
    format or could not be written. Unless it says that the new tensors are there, the directory is
    as it was.
    """
    method = method_of(model)
    if method is None:
        raise StateError(
            f"This {type(model).__name__} has no adapters. Add them with lorakit.inject or "
            "lorakit.load_adapter."
        )
    return write(method.bundle(model), path)


def load_adapter(
    model: nn.Module,
    path: str | Path,
    lora_alpha: float | None = None,
    *,
    revision: str | None = None,
    check_base: bool = True,
) -> LoadReport:
    """Load an adapter onto a model, adapting it first if it is plain.

    Of torch.compile's and DataParallel's wrappers the model within is meant.
    `path` is a PEFT directory, a hub id (`revision` names a branch, tag or commit), a
    .safetensors file, a loralib .pt/.bin file, for which `lora_alpha` is required, or a name of
    `lorakit checkpoints list`, which is downloaded and brings its alpha; or what another method
    trained, as `save_adapter` wrote it. Afterwards A, B and what
    was trained in full require gradients, as after `inject`. On a model that is adapted already,
    exactly the same modules must be.

    Raises FormatError or MissingAlphaError for the file, and MismatchError that lists every
    tensor without a place, every place without a tensor, wrong shapes, base weights that
    `from_pretrained` made up, and a base other than the one the adapter was trained on
    (`check_base=False` allows that). Neither model nor disk has changed then.
    """
    return load(model, read(path, lora_alpha, revision), str(path), check_base)


def load(
    model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
) -> LoadReport:
    """The same for a bundle in memory; `origin` names it in errors."""
    if bundle.method not in METHODS:
        raise FormatError(
            f"{origin} was trained with the method {bundle.method!r}, which is not registered"
            f"{suggest(bundle.method, METHODS)}; the methods are {', '.join(METHODS)}."
        )
    here = method_of(model)
    if here is not None and here.name != bundle.method:
        raise MismatchError(
            f"{origin} was trained with the method {bundle.method}, but this "
            f"{type(model).__name__} is prepared for {here.name}; load it onto the unmodified base."
        )
    return METHODS[bundle.method].load(model, bundle, origin, check_base)
