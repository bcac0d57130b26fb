"""Load a bundle into a live model, strictly: everything fits, or nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import verdict
from lorakit.checkpoint.late_names import in_model_names
from lorakit.checkpoint.renaming import renaming_text
from lorakit.errors import MismatchError
from lorakit.injection import trained_copies
from lorakit.injection.inspection.health import mark_training_start
from lorakit.injection.inspection.report import Report, describe
from lorakit.injection.installation import install
from lorakit.injection.modes import merge_report
from lorakit.injection.record import require_enabled
from lorakit.injection.selection.selected import Selection, Target
from lorakit.injection.transfer.moved_names import in_present_names
from lorakit.injection.transfer.placement import Placement, place
from lorakit.injection.transfer.pretrained import keep_loadable
from lorakit.injection.transfer.stacked_experts import with_routers, with_stacked_experts
from lorakit.injection.transfer.token_rows import without_tables
from lorakit.injection.transfer.trained_tensors import without_base_copies
from lorakit.injection.transfer.untying import trained_as_one, untie
from lorakit.layer_groups import group_layers
from lorakit.layers.conversion import lora_layers
from lorakit.surgery.wrappers import unwrapped
from lorakit.text import settings
from lorakit.variants.parameter_site import parameters_of


@dataclass(frozen=True)
class LoadReport:
    """What was loaded, and whether it fits the base."""

    format: str
    adapter: Report
    base_verified: bool | None
    """True if the adapted weights are those that it was trained on (of another method: the frozen
    ones); None if the file has no fingerprint or the two precisions cannot be compared."""
    worst_rounding: float | None
    """For a 16-bit base: the largest share of a layer's update that merging would lose."""
    unknown_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings in the file that lorakit does not know; they could mean another function."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name of a module -> its name in the file, where that is another one."""

    def __str__(self) -> str:
        lines = [str(self.adapter), f"format: {self.format}"]
        lines.append(f"base: {verdict(self.base_verified, bool(self.adapter.layers))}")
        if self.worst_rounding is not None:
            lines.append(f"rounding when merged: up to {self.worst_rounding:.1%} of an update")
        if self.unknown_settings:
            text = settings(self.unknown_settings)
            lines.append(f"unknown settings, which could mean another function: {text}")
        if self.renamed:
            lines.append(renaming_text(self.renamed))
        return "\n".join(lines)


def load_bundle(
    model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
) -> LoadReport:
    """Load a LoRA bundle into a model, adapting it first if it is not adapted.

    `origin` names the bundle in errors. Raises MismatchError as `lorakit.load_adapter` does.
    """
    model = unwrapped(model)
    bundle, placement = fit(model, bundle, origin, check_base)
    if any(True for _ in lora_layers(model)):
        require_enabled(model)
        _overwrite(model, placement)
    else:
        values = {name: adapter.tensors for name, adapter in placement.adapters.items()}
        install(model, placement.config, _selection(model, placement), values)
        keep_loadable(model)
    fill(model, bundle.trained)
    mark_training_start(model)
    rounding = _worst_rounding(model)
    verified, unknown = placement.base_verified, bundle.unknown_settings
    return LoadReport(bundle.format, describe(model), verified, rounding, unknown, bundle.renamed)


def fit(
    model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
) -> tuple[AdapterBundle, Placement]:
    """Match a bundle with a model, without changing it: what is stored, and where it belongs.

    Raises MismatchError that lists everything that does not fit.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    bundle, unexpected = in_model_names(bundle, names)
    bundle = with_stacked_experts(model, bundle)
    if parameters_of(bundle.adapters):
        names += [name for name, _ in model.named_parameters(remove_duplicate=False)]
    bundle = with_routers(model, in_present_names(model, bundle, names))
    bundle = without_tables(model, without_base_copies(model, bundle))
    placement = place(model, bundle)
    adapted = any(True for _ in lora_layers(model))
    tied = trained_as_one(placement.trained, bundle.trained) if adapted else []
    problems = group_layers([*unexpected, *placement.problems, *tied])
    if check_base and placement.base_verified is False:
        problems.append(another_base(bundle))
    if problems:
        raise MismatchError(f"{origin} does not fit this {type(model).__name__}:", problems)
    return bundle, placement


def another_base(bundle: AdapterBundle) -> str:
    """The error message for a fingerprint of other weights."""
    digest = next(iter((bundle.fingerprint or {"": "none"}).values()))[:12]
    return (
        "the base weights differ from those that the adapter was trained on (expected fingerprint "
        f"{digest}, base model {bundle.base_model or 'unknown'}); load that base model, or pass "
        "check_base=False (--no-check-base) to use this one"
    )


def _selection(model: nn.Module, placement: Placement) -> Selection:
    targets = []
    for name, adapter in placement.adapters.items():
        assert adapter.site is not None
        targets.append(Target(name, placement.modules[name], adapter.spec, adapter.site))
    return Selection(tuple(targets), tuple(placement.trained.values()))


def _overwrite(model: nn.Module, placement: Placement) -> None:
    """Write new values into existing adapters."""
    layers = dict(lora_layers(model))
    for name, adapter in placement.adapters.items():
        layers[name].set_adapter_tensors(adapter.tensors)
    copied = trained_copies.slots(model)
    new = [s for s in placement.trained.values() if (id(s[0]), s[1]) not in copied]
    trained_copies.make(model, new)


def fill(model: nn.Module, trained: Mapping[str, Tensor]) -> None:
    """Write saved tensors into the model's trained tensors of the same names.

    Tied ones are untied if their values differ.
    """
    parts = {name: name.rpartition(".") for name in trained}
    places = {name: (model.get_submodule(owner), leaf) for name, (owner, _, leaf) in parts.items()}
    untie(model, places, trained)
    made: dict[Tensor, Tensor] = {}
    with torch.no_grad():
        for name, (module, leaf) in places.items():
            table, value = trained_copies.slot(module, leaf), trained[name]
            here = table[leaf]
            if here.is_meta:
                real = value.to(here.dtype, copy=True)
                real = nn.Parameter(real) if here.requires_grad else real
                table[leaf] = made.setdefault(here, real)
            else:
                here.copy_(value)


def _worst_rounding(model: nn.Module) -> float | None:
    weights = [layer.base_weight for _, layer in lora_layers(model)]
    if not any(weight.element_size() < 4 and not weight.is_meta for weight in weights):
        return None
    return merge_report(model).worst_rounding
