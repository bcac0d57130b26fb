"""Initialise a run from another run's adapter, as the paper's MRPC, RTE and STS-B from MNLI.

Every adapted module of the source has to be adapted in this run with the same rank, widths and
scaling, on the same base. Of fully trained tensors (heads, biases), those of the same name and
shape are loaded; the last layer of a head for other labels, if the source names them, is newly
initialized: a logit for "entailment" is no start for one for "not equivalent". If anything does not
fit, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import compare
from lorakit.checkpoint.late_names import in_model_names
from lorakit.errors import FormatError, MismatchError, MissingAlphaError
from lorakit.injection import trained_copies
from lorakit.injection.transfer.loading import fill
from lorakit.layer_groups import group_layers
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from lorakit.methods import find
from lorakit.methods.registry import with_adapters
from lorakit.models.heads import output_layer
from lorakit.runs.adapter_place import place_of
from lorakit.runs.beside import stored_task
from lorakit.variants import ModuleAdapter, RowsSite, Site
from lorakit.variants.trainable_tokens import rows_of


@dataclass(frozen=True)
class WarmStart:
    """What was loaded from another adapter, and what was not."""

    source: str
    loaded: tuple[str, ...]
    """Adapted modules and fully trained tensors that were initialized from the source."""
    not_loaded: Mapping[str, str]
    """Tensors of the source that this run does not use, and why."""
    new: tuple[str, ...]
    """Trainable modules and tensors that were not in the source."""

    def __str__(self) -> str:
        lines = group_layers((name, "is loaded") for name in self.loaded)
        lines += group_layers(
            (name, f"is not loaded: it {why}") for name, why in self.not_loaded.items()
        )
        lines += group_layers((name, "is newly initialized") for name in self.new)
        return "\n".join([f"initializing from {self.source}:", *(f"  {line}" for line in lines)])


def source_labels(source: str) -> tuple[str, ...]:
    """The class names of the source, in the order of the logits; empty if it has none."""
    task = stored_task(place_of(source).directory())
    return () if task is None else task.class_names


def read_source(source: str, lora_alpha: float) -> AdapterBundle:
    """The adapter of a run, or one by path or name; `lora_alpha` is for files without one.

    Raises FormatError if there is none, the run is not finished, or its method is not one whose
    adapters can be taken.
    """
    place = place_of(source)
    try:
        bundle = place.read()
    except MissingAlphaError:
        bundle = place.read(lora_alpha)
    if not find(bundle.method).has_adapters:
        raise FormatError(
            f"{source} was trained with the method {bundle.method}, and init_adapter takes the "
            f"adapters of a run of {with_adapters()}; name such a run, or leave init_adapter out."
        )
    return bundle


def warm_start(
    model: nn.Module,
    bundle: AdapterBundle,
    source: str,
    labels: Sequence[str] = (),
    labels_there: Sequence[str] = (),
) -> WarmStart:
    """Copy the bundle's tensors into a freshly adapted model.

    `labels` are those of this run, `labels_there` the source's; empty if unknown.
    Raises MismatchError that lists every adapter that does not fit.
    """
    layers = dict(lora_layers(model))
    bundle, misspelt = in_model_names(bundle, (name for name, _ in model.named_modules()))
    _require_fit(layers, bundle, source, misspelt)
    state, copied = model.state_dict(), trained_copies.names(model)
    not_loaded = {
        name: problem
        for name, value in bundle.trained.items()
        if (problem := _why_not_loaded(name, value, state, copied)) is not None
    }
    if labels and labels_there and [*labels] != [*labels_there]:
        why = f"is for the labels {', '.join(labels_there)}"
        not_loaded |= {name: why for name in output_layer(bundle.trained) if name not in not_loaded}
    trained = {name: value for name, value in bundle.trained.items() if name not in not_loaded}
    for name, adapter in bundle.adapters.items():
        layers[name].set_adapter_tensors(adapter.tensors)
    fill(model, trained)
    loaded = (*bundle.adapters, *trained)
    new = tuple(name for name in (*layers, *copied) if name not in loaded)
    return WarmStart(source, loaded, not_loaded, new)


def _require_fit(
    layers: Mapping[str, AdapterLayer],
    bundle: AdapterBundle,
    source: str,
    misspelt: Sequence[tuple[str, str]],
) -> None:
    unfit = (
        (name, problem)
        for name, adapter in bundle.adapters.items()
        if (problem := _problem(name, adapter, layers)) is not None
    )
    problems = group_layers([*misspelt, *unfit])
    if not problems:
        rows = rows_of(bundle.adapters)
        weights = {name: layers[name].base_weight for name in bundle.adapters if name not in rows}
        if compare(bundle.fingerprint, weights) is False:
            problems = [
                "the base weights differ from those that it was trained on (base model "
                f"{bundle.base_model or 'unknown'}); use that base"
            ]
    if problems:
        raise MismatchError(f"This run cannot be initialized from {source}:", problems)


def _problem(name: str, source: ModuleAdapter, layers: Mapping[str, AdapterLayer]) -> str | None:
    """Why a module of the source cannot initialise this run's; None if it can."""
    if name not in layers:
        return "is not adapted in this run; see lora.target_modules"
    layer, there = layers[name], source.spec
    if there.variant != layer.spec.variant:
        return (
            f"is {source.variant.title} in the source and {layer.variant.title} in this run; set "
            f"lora.variant to "
            f"{there.variant}"
        )
    if isinstance(source.site, RowsSite):
        return _rows_problem(source.site, layer.site)
    shapes, here = source.shapes, layer.adapter.shapes
    if shapes != here:
        (a, b), (a_here, b_here) = [*shapes.values()][:2], [*here.values()][:2]
        same_width = a[1:] == a_here[1:] and b[0] == b_here[0]
        what = "has another rank; set lora.r" if same_width else "has another width"
        return f"{what}: A {a} and B {b} in the source, A {a_here} and B {b_here} in this run"
    scaling = replace(there, r=layer.r).scaling
    if scaling != layer.scaling:
        return (
            f"has scaling {scaling:g} in the source and {layer.scaling:g} in this run; set "
            f"lora.lora_alpha to {there.lora_alpha:g}"
            + (" and lora.use_rslora to true" if there.use_rslora else "")
        )
    return None


def _rows_problem(there: RowsSite, here: Site) -> str | None:
    if here.rows == there.rows:
        return None
    return (
        f"trains the rows {there.rows} in the source and {here.rows} in this run; set "
        "lora.trainable_token_indices"
    )


def _why_not_loaded(
    name: str, value: Tensor, state: Mapping[str, Any], copied: list[str]
) -> str | None:
    if name not in copied:
        return "is not trainable in this run"
    if state[name].shape != value.shape:
        here = tuple(state[name].shape)
        return f"has shape {tuple(value.shape)} in the source and {here} in this run"
    return None
