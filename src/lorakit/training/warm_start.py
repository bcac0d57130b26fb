"""A run that starts from the adapter of another one, as the paper's MRPC, RTE and STS-B from MNLI.

Every adapter of the source has to find one of its rank, widths and scale here, on the same base.
Of what was trained in full (heads, biases), tensors of the same name and shape are taken; the last
layer of a head for other labels, as far as the source says them, stays new: a logit that meant
"entailment" is no start for one that means "not equivalent". Nothing has changed if anything does
not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.fingerprint import compare
from lorakit.checkpoint.late_names import in_model_names
from lorakit.errors import FormatError, MismatchError, MissingAlphaError
from lorakit.injection import trained_copies
from lorakit.injection.selection.naming import group_layers
from lorakit.layers.base import LoraLayer
from lorakit.layers.conversion import lora_layers
from lorakit.methods import find
from lorakit.models.heads import output_layer
from lorakit.runs.directory import ADAPTER, RECIPE
from lorakit.tasks.task_file import load_task
from lorakit.variants import ModuleAdapter


@dataclass(frozen=True)
class WarmStart:
    """What was taken from another adapter, and what was not."""

    source: str
    taken: tuple[str, ...]
    """Adapted modules, and tensors that train in full, that start from the source's values."""
    left: Mapping[str, str]
    """What the source holds and this run does not use, and why."""
    new: tuple[str, ...]
    """What trains here and the source has no values for."""

    def __str__(self) -> str:
        lines = group_layers((name, "is taken") for name in self.taken)
        lines += group_layers((name, f"is left: it {why}") for name, why in self.left.items())
        lines += group_layers((name, "is new") for name in self.new)
        return "\n".join([f"starting from {self.source}:", *(f"  {line}" for line in lines)])


def source_labels(source: str) -> tuple[str, ...]:
    """The labels that the source's logits stand for; empty if it does not say."""
    run = Path(source)
    task = load_task(run / ADAPTER if (run / RECIPE).is_file() else run)
    return () if task is None else task.class_names


def read_source(source: str, lora_alpha: float) -> AdapterBundle:
    """The adapter of a run, or one by path or name; `lora_alpha` is for files that do not say it.

    Raises FormatError if there is none, the run is not finished, or its method makes no adapters.
    """
    path: str | Path = source
    if (Path(source) / RECIPE).is_file():
        path = Path(source) / ADAPTER
        if not path.is_dir():
            raise FormatError(f"{source} holds a run that is not finished; finish it first.")
    try:
        bundle = read(path)
    except MissingAlphaError:
        bundle = read(path, lora_alpha)
    if not find(bundle.method).has_adapters:
        raise FormatError(
            f"{source} holds what the method {bundle.method} trained, and no adapters that this "
            "run could start from."
        )
    return bundle


def warm_start(
    model: nn.Module,
    bundle: AdapterBundle,
    source: str,
    labels: Sequence[str] = (),
    labels_there: Sequence[str] = (),
) -> WarmStart:
    """Write the bundle's values over the fresh ones of an adapted model.

    `labels` are those of this run, `labels_there` the source's; empty where unknown.
    Raises MismatchError that lists every adapter that does not fit.
    """
    layers = dict(lora_layers(model))
    bundle, misspelt = in_model_names(bundle, (name for name, _ in model.named_modules()))
    _require_fit(layers, bundle, source, misspelt)
    state, copied = model.state_dict(), trained_copies.names(model)
    left = {
        name: problem
        for name, value in bundle.trained.items()
        if (problem := _why_left(name, value, state, copied)) is not None
    }
    if labels and labels_there and [*labels] != [*labels_there]:
        why = f"is for the labels {', '.join(labels_there)}"
        left |= {name: why for name in output_layer(bundle.trained) if name not in left}
    trained = {name: value for name, value in bundle.trained.items() if name not in left}
    for name, adapter in bundle.adapters.items():
        layers[name].set_adapter_tensors(adapter.tensors)
    with torch.no_grad():
        for name, value in trained.items():
            state[name].copy_(value)
    taken = (*bundle.adapters, *trained)
    new = tuple(name for name in (*layers, *copied) if name not in taken)
    return WarmStart(source, taken, left, new)


def _require_fit(
    layers: Mapping[str, LoraLayer],
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
        weights = {name: layers[name].base_weight for name in bundle.adapters}
        if compare(bundle.fingerprint, weights) is False:
            problems = [
                "the base weights are not those that it was trained on (base "
                f"{bundle.base_model or 'unknown'}); start from that base"
            ]
    if problems:
        raise MismatchError(f"This run cannot start from {source}:", problems)


def _problem(name: str, source: ModuleAdapter, layers: Mapping[str, LoraLayer]) -> str | None:
    """Why an adapter of the source cannot be the start of one here."""
    if name not in layers:
        return "is not adapted in this run; see lora.target_modules"
    layer, there = layers[name], source.spec
    if there.variant != layer.spec.variant:
        return (
            f"is {source.variant.title} there and {layer.variant.title} here; set lora.variant to "
            f"{there.variant}"
        )
    shapes, here = source.shapes, layer.adapter.shapes
    if shapes != here:
        (a, b), (a_here, b_here) = [*shapes.values()][:2], [*here.values()][:2]
        same_width = a[1:] == a_here[1:] and b[0] == b_here[0]
        what = "is of another rank; set lora.r" if same_width else "is of another width"
        return f"{what}: A {a} and B {b} there, A {a_here} and B {b_here} here"
    scaling = replace(there, r=layer.r).scaling
    if scaling != layer.scaling:
        return (
            f"is scaled by {scaling:g} there and by {layer.scaling:g} here; set lora.lora_alpha to "
            f"{there.lora_alpha:g}" + (" and lora.use_rslora to true" if there.use_rslora else "")
        )
    return None


def _why_left(name: str, value: Tensor, state: Mapping[str, Any], copied: list[str]) -> str | None:
    if name not in copied:
        return "does not train in this run"
    if state[name].shape != value.shape:
        return f"has shape {tuple(value.shape)} there and {tuple(state[name].shape)} here"
    return None
