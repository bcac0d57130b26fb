"""From a bundle to what each module of a model gets of it, once everything is known to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from lorakit.adapters.loaded import Loaded, Parts, describe
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import MismatchError, TargetError
from lorakit.injection.selection.naming import group_layers
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.injection.transfer.loading import fit
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_class_of


def fitted(
    model: nn.Module, name: str, bundle: AdapterBundle, origin: str, check_base: bool
) -> tuple[Loaded, Parts]:
    """Match a bundle with a model that is not changed; `origin` names it in errors.

    Raises MismatchError as `lorakit.load_adapter` does, and TargetError that lists each tensor that
    has no meaning for one row of a batch.
    """
    if bundle.method != "lora":
        raise MismatchError(
            f"{origin} was trained with the method {bundle.method}, and an AdapterSet has LoRA "
            "adapters; load it onto a base of its own with lorakit.load_adapter."
        )
    bundle, placement = fit(model, bundle, origin, check_base)
    problems = [
        (key, problem)
        for key, (module, leaf) in placement.trained.items()
        if (problem := _not_by_row(module, leaf)) is not None
    ]
    if problems:
        raise TargetError(
            f"{origin} trains tensors that cannot differ from row to row, so it cannot be one of a "
            "set; load it onto a base of its own with lorakit.load_adapter:",
            group_layers(problems),
        )
    own = _by_module(placement.trained, bundle.trained)
    names = dict.fromkeys([*placement.adapters, *own])
    parts: Parts = {n: (placement.adapters.get(n), own.get(n, {})) for n in names}
    verified, unknown = placement.base_verified, bundle.unknown_settings
    loaded = describe(name, origin, placement.config, parts)
    return replace(loaded, base_verified=verified, unknown_settings=unknown), parts


def _by_module(
    places: Mapping[str, Slot], values: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Copies of the tensors that are trained in full, as the module holds its own, by module."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, (module, leaf) in places.items():
        here = module._parameters[leaf]
        assert here is not None
        copy = values[key].detach().to(device=here.device, dtype=here.dtype, copy=True)
        found.setdefault(key.rpartition(".")[0], {})[leaf] = copy
    return found


def _not_by_row(module: nn.Module, leaf: str) -> str | None:
    """Why this tensor cannot differ from row to row; None if it can."""
    kind = type(module).__name__
    if leaf not in module._parameters:
        return f"is a buffer of {kind}, which all rows share"
    if next(module.children(), None) is not None:
        return f"is a parameter of {kind} itself, whose forward is more than a function of rows"
    known = isinstance(module, AdapterLayer) or lora_class_of(module) is not None
    if known or isinstance(module, nn.LayerNorm | nn.GroupNorm) or kind.endswith(_NORMS):
        return None
    return f"is a parameter of {kind}, of which it is not known that each row is by itself"


_NORMS = ("RMSNorm", "LayerNorm")
"""Ends of the names of classes that normalise each row by itself, torch's and transformers'."""
