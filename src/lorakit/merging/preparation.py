"""Adapters on the model of their base without its weights: what changes in which of its tensors.

All that loading checks is checked here, by loading itself: names, shapes, heads, the vocabulary,
what a method can be merged at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.base_checkpoints import BaseCheckpoint
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import Sample, compare_samples, places, sample
from lorakit.checkpoint.late_names import in_model_names
from lorakit.errors import MismatchError
from lorakit.injection.folding import require_weights_hold
from lorakit.injection.transfer.loading import another_base
from lorakit.injection.transfer.trained_tensors import ANOTHER_WEIGHT
from lorakit.layers.conversion import lora_layers
from lorakit.merging.adapters import Opened
from lorakit.merging.changes import Added, Change, Placed, adapted
from lorakit.methods import find, load
from lorakit.models.checkpoint_names import CheckpointNames, checkpoint_names
from lorakit.models.vocabulary import fit_vocabulary, new_size
from lorakit.models.weightless import give_values, vocabulary_tensors, weightless_model
from lorakit.surgery.ties import storage_key, tied_names
from lorakit.variants import ModuleAdapter, RowsSite


@dataclass(frozen=True)
class Prepared:
    """A model without weights, and what an adapter changes in it."""

    model: Any
    """With the adapter loaded; its config is that of the merged model."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the tensors of the plain model, by name."""
    ties: Sequence[tuple[str, ...]]
    """Names of one and the same tensor of the base."""
    names: CheckpointNames
    """How they are called in the checkpoint."""
    changes: Mapping[str, Change]
    """By the name of the tensor."""
    tables: Mapping[str, Tensor]
    """Tables of a vocabulary that had to be resized."""
    base_verified: bool | None
    """Whether the base is that of the training."""
    renamed: Mapping[str, str]
    """Name of a module -> its name in the adapter's file, where that is another one."""


def prepare(
    base: str,
    revision: str | None,
    checkpoint: BaseCheckpoint,
    one: Opened,
    tokenizer: Any,
    check_base: bool = True,
) -> Prepared:
    """Load an adapter onto its base without weights.

    `tokenizer` is the adapter's own. Raises FormatError and MismatchError as loading does,
    TargetError for what no weight can hold.
    """
    model = weightless_model(base, revision, one.bundle)
    names = checkpoint_names(model, checkpoint.tensors)
    tables = _resized(model, names, checkpoint, one.bundle, tokenizer)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ties = tied_names(model)
    method, said = find(one.bundle.method), _said_of_ties(model)
    report = load(model, one.bundle, one.source, check_base=False)
    if not method.has_plain_form:
        method.fold(model)  # raises what it says of itself
    require_weights_hold(model)
    for config, tied in said:
        config.tie_word_embeddings = tied  # whether they still are, the values say
    changes = _changes(model, tables)
    samples = _samples(model, names, checkpoint, tables)
    verified = _is_base(one.bundle, samples, report.renamed)
    if check_base:
        problems = [] if verified is not False else [another_base(one.bundle)]
        problems += _differing_copies(one.bundle, names, checkpoint)
        if problems:
            raise MismatchError(f"{one.source} does not fit the base {base}:", problems)
    return Prepared(model, shapes, ties, names, changes, tables, verified, report.renamed)


def _said_of_ties(model: nn.Module) -> list[tuple[Any, bool]]:
    """What each config in the model says of them, which loading may change."""
    configs: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    return [(c, c.tie_word_embeddings) for c in configs if hasattr(c, "tie_word_embeddings")]


def _resized(
    model: Any,
    names: CheckpointNames,
    checkpoint: BaseCheckpoint,
    bundle: AdapterBundle,
    tokenizer: Any,
) -> dict[str, Tensor]:
    """The tables of the vocabulary, made as large as the adapter's; empty where they fit."""
    named, _ = in_model_names(bundle, (name for name, _ in model.named_modules()))
    if new_size(model, named, tokenizer) is None:
        return {}
    keys = names.key_of
    held = {name: keys[name] for name in vocabulary_tensors(model) if name in keys}
    give_values(model, {name: checkpoint.read(key) for name, key in held.items()})
    fit_vocabulary(model, bundle, tokenizer)
    state = model.state_dict()
    return {name: state[name] for name in vocabulary_tensors(model) if not state[name].is_meta}


def _changes(model: nn.Module, tables: Mapping[str, Tensor]) -> dict[str, Change]:
    """What the loaded adapter changes: where it has values, and the base's are not there."""
    changes: dict[str, Change] = {}
    factors, offsets = set(), {}
    for name, layer in lora_layers(model):
        factors |= {f"{name}.{leaf}" for leaf in layer.tensor_names}
        if layer.tensor_names:
            changes[layer.weight_path(name)] = adapted(_detached(layer.adapter), name)
        if (offset := layer.bias_delta()) is not None:
            offsets[f"{name}.bias"] = offset.detach()
    changes |= {name: Added(offset) for name, offset in offsets.items()}
    for name, tensor in model.state_dict().items():
        kept = name in tables and storage_key(tables[name]) == storage_key(tensor)
        if not (tensor.is_meta or kept or name in factors):
            changes[name] = Placed(tensor + offsets[name] if name in offsets else tensor)
    return changes


def _detached(adapter: ModuleAdapter) -> ModuleAdapter:
    return replace(adapter, tensors={n: tensor.detach() for n, tensor in adapter.tensors.items()})


def _is_base(
    bundle: AdapterBundle, samples: Mapping[str, Sample], renamed: Mapping[str, str]
) -> bool | None:
    """Whether the bundle's fingerprint is of these, by their names here or in the file."""
    stored = bundle.fingerprint or {}
    before = {renamed.get(name, name): taken for name, taken in samples.items()}
    return compare_samples(stored, samples) or compare_samples(stored, before)


def _differing_copies(
    bundle: AdapterBundle, names: CheckpointNames, checkpoint: BaseCheckpoint
) -> list[str]:
    """The base's weights in an adapter's file that are not those of the checkpoint."""
    keys = names.key_of
    problems = []
    for name, copy in bundle.base_copies.items():
        stored = checkpoint.tensors.get(keys.get(name, ""))
        if stored is None or stored.shape != tuple(copy.shape):
            continue
        if not torch.equal(checkpoint.read(keys[name]), copy.to(stored.dtype)):
            problems.append(f"{name} {ANOTHER_WEIGHT}")
    return problems


def _samples(
    model: nn.Module,
    names: CheckpointNames,
    checkpoint: BaseCheckpoint,
    tables: Mapping[str, Tensor],
) -> dict[str, Sample]:
    """Of the weights that a fingerprint is of, in the checkpoint; empty where one is not there."""
    keys = names.key_of
    samples = {}
    for called, name in _fingerprinted(model).items():
        if name in tables:
            samples[called] = sample(tables[name])
        elif name in keys:
            stored = checkpoint.tensors[keys[name]]
            taken = checkpoint.read_elements(keys[name], places(stored.size))
            samples[called] = Sample(stored.shape, taken)
        else:
            return {}
    return samples


def _fingerprinted(model: nn.Module) -> dict[str, str]:
    """The weights that a fingerprint is of, by the names that it hashes.

    LoRA's are those of the adapted modules, another method's the matrices that it left frozen.
    """
    layers = dict(lora_layers(model))
    if layers:
        return {
            name: layer.weight_path(name)
            for name, layer in layers.items()
            if not isinstance(layer.site, RowsSite)
        }
    return {name: name for name, p in model.named_parameters() if p.is_meta and p.ndim > 1}
