"""`lorakit.save_adapter` and `lorakit.load_adapter`, for every method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.checkpoint.renaming import renamed_by
from lorakit.errors import FormatError, MismatchError, StateError, suggest
from lorakit.injection.record import require_no_set
from lorakit.injection.transfer.base_facts import base_config
from lorakit.injection.transfer.loading import LoadReport
from lorakit.methods.registry import METHODS, method_of
from lorakit.surgery.foreign import require_no_peft


def save_adapter(model: nn.Module, path: str | Path) -> Path:
    """Save the adapters of `model`, and all else that it trains, as a PEFT directory, atomically.

    In the directory `path` it writes adapter_config.json, adapter_model.safetensors and a model
    card; other files are kept.
    The safetensors header also has the config, the base's fingerprint and the slices of fused
    weights. Other trainable parameters are saved in full, like `modules_to_save`. Wrappers of
    torch.compile and DataParallel are ignored. What a method other than LoRA has trained is saved
    as trained.safetensors, with the method in its header.

    Raises StateError if the model has no adapters, inside `lorakit.disabled`, or if adapters were
    removed or no longer fit their weights; SaveError if the format cannot store something or
    writing fails. Unless it says that the new tensors are in place, the directory is unchanged.
    """
    require_no_set(model)
    method = method_of(model)
    if method is None:
        require_no_peft(model)
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
    subfolder: str | None = None,
    rename: Mapping[str, str] | None = None,
    check_base: bool = True,
) -> LoadReport:
    """Load an adapter into `model`, adapting it first if it is not adapted.

    `path` is a PEFT directory, a Hub id (`revision` is a branch, tag or commit), a .safetensors
    file, a loralib .pt/.bin file, for which `lora_alpha` is required, a name in
    `lorakit checkpoints list`, which is downloaded and whose alpha is known, or what another method
    trained, as saved by `save_adapter`. Afterwards the adapters and what was trained in full
    require gradients, as after `inject`. `subfolder` is where in a directory or repository it is.
    `rename` gives modules other names: what a regular expression finds in one becomes the
    replacement, as in `re.sub`, by the first that finds something. Where a model is a part of the
    one that the adapter was saved from, or has that as a part, names are moved without it; the
    report says what was renamed. A model that is already adapted must have exactly the same
    adapted modules. Wrappers of torch.compile and DataParallel are ignored.

    Raises FormatError or MissingAlphaError for the file, and MismatchError that lists every
    unexpected key, every missing key, size mismatches, newly initialized base weights, and base
    weights other than those that the adapter was trained on (`check_base=False` allows them);
    StateError for a model with PEFT's modules. Neither the model nor the disk has changed then.
    """
    base = base_config(model)
    bundle = read(path, lora_alpha, revision, subfolder=subfolder, base=base)
    bundle = bundle if rename is None else renamed_by(bundle, rename)
    return load(model, bundle, str(path), check_base)


def load(
    model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
) -> LoadReport:
    """Load `bundle` into `model`, as `load_adapter` does a file; `origin` names it in errors.

    `check_base=False` allows base weights other than those that it was trained on.
    """
    if bundle.method not in METHODS:
        raise FormatError(
            f"{origin} was trained with the method {bundle.method!r}, which is not registered"
            f"{suggest(bundle.method, METHODS)}; the methods are {', '.join(METHODS)}."
        )
    require_no_peft(model)
    require_no_set(model)
    here = method_of(model)
    if here is not None and here.name != bundle.method:
        raise MismatchError(
            f"{origin} was trained with the method {bundle.method}, but this "
            f"{type(model).__name__} is prepared for {here.name}; load it onto the unmodified base."
        )
    return METHODS[bundle.method].load(model, bundle, origin, check_base)
