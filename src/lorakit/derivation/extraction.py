"""`extract`: an adapter from the difference of two checkpoints, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from lorakit.algebra.differences import CheckpointPair, Keys
from lorakit.algebra.extraction import extract_adapter
from lorakit.algebra.outcome import Approximation, Deviation, Outcome
from lorakit.algebra.size import Size
from lorakit.base_checkpoints import Bar, BaseCheckpoint, open_checkpoint, told, untold
from lorakit.base_checkpoints.layout import ADAPTER_CONFIG
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import Sample, fingerprint_of
from lorakit.checkpoint.settings import bias_of, modules_of, target_fields, with_settings_of
from lorakit.config import LoraConfig
from lorakit.derivation.adaptable import Adaptable, adaptable
from lorakit.derivation.kept_whole import KeptWhole, keep_whole
from lorakit.derivation.structure import Names, require_one_architecture
from lorakit.errors import FormatError, MismatchError
from lorakit.foreign_files import local_path
from lorakit.injection.selection.naming import shortest_suffixes
from lorakit.injection.transfer.base_facts import base_facts
from lorakit.layer_groups import group_layers
from lorakit.models.checkpoint_names import checkpoint_names
from lorakit.models.loading import meta_model
from lorakit.models.weightless import counterpart
from lorakit.surgery.ties import tied_names
from lorakit.variants.parameter_site import parameters_of


def extract(
    base_dir: str | Path,
    tuned_dir: str | Path,
    rank: int | None = None,
    energy: float | None = None,
    keep_rest: bool = False,
    bar: Bar = untold,
) -> Outcome:
    """A LoRA whose update is the best of its rank of the difference of two checkpoints.

    `base_dir` and `tuned_dir` are directories of transformers models; one tensor is in memory at a
    time, or one stack of experts. Each linear layer, convolution and stack of experts whose weight
    changed gets an adapter of `rank`, or of the rank that a share `energy` of its difference takes.
    What else changed (embeddings, norms, biases, a head that only the tuned model has) has no low
    rank: it is an error that lists it, or with `keep_rest` it is saved whole, as `modules_to_save`
    and `bias` do. A tuned tensor that is the base's in its own precision has not changed. `bar` is
    told the bytes that are done.

    Raises FormatError for damaged checkpoints, MismatchError that lists by what tensors their
    architectures differ, before a value is read, what differs and cannot be extracted, or where
    nothing does, ConfigError for an invalid size.
    """
    size = Size(rank, energy)
    base, tuned = (_open(local_path(directory)) for directory in (base_dir, tuned_dir))
    model = meta_model(str(tuned_dir))
    names = checkpoint_names(model, base.tensors), checkpoint_names(model, tuned.tensors)
    pair, mixed = _pair(model, base, tuned, names)
    require_one_architecture(model, counterpart(model, str(base_dir)), pair.keys, names)
    weights = adaptable(model, pair, mixed)
    rest = _rest(pair, weights, mixed)
    kept = keep_whole(pair, rest, list(weights)) if keep_rest else KeptWhole(problems=rest)
    problems = group_layers([*kept.problems.items(), *_rank_problems(weights, size)])
    if problems:
        raise MismatchError(
            f"{tuned_dir} differs from {base_dir} in what has no low rank"
            + (":" if keep_rest else "; --keep-rest (keep_rest=True) saves it whole:"),
            problems,
        )
    parts = _extracted(pair, weights, size, bar)
    if not parts and not kept.tensors:
        raise MismatchError(f"{tuned_dir} and {base_dir} have the same weights.")
    samples = {name: weights[name].sample_of_base(pair) for name in parts}
    return _outcome(model, str(base_dir), samples, parts, kept)


def _open(directory: Path) -> BaseCheckpoint:
    """Raises FormatError also for a hub id, and where transformers would apply an adapter."""
    if not directory.exists():
        raise FormatError(
            f"{directory} is not there. What is read are directories; if it is a model of the "
            f"Hub, download it (hf download {directory} --local-dir DIR) and pass that directory."
        )
    if (directory / ADAPTER_CONFIG).is_file():
        raise FormatError(
            f"{directory} holds an adapter ({ADAPTER_CONFIG}), which would be left out; merge it "
            "first (lorakit merge), or pass a directory without it."
        )
    return open_checkpoint(directory)


def _pair(
    model: nn.Module, base: BaseCheckpoint, tuned: BaseCheckpoint, found: Names
) -> tuple[CheckpointPair, dict[str, tuple[str, ...]]]:
    """Both checkpoints by the model's names, and the tensors that are made of several.

    A file has one of the names of a tied weight; here it has all of them.
    """
    before, after = (names.key_of for names in found)
    for group in tied_names(model):
        for keys_of in (before, after):
            key = next((keys_of[name] for name in group if name in keys_of), None)
            keys_of.update({} if key is None else dict.fromkeys(group, key))
    keys = {name: Keys(before.get(name), after.get(name)) for name in {**after, **before}}
    mixed = _mixed(found)
    keys |= {key: Keys(key, key) for parts in mixed.values() for key in parts}
    return CheckpointPair(base, tuned, keys), mixed


def _mixed(found: Names) -> dict[str, tuple[str, ...]]:
    """The keys of what is computed from several tensors of both checkpoints, by its name."""
    base, tuned = (names.converted for names in found)
    return {name: parts for name, parts in tuned.items() if base.get(name) == parts}


def _rest(
    pair: CheckpointPair,
    weights: Mapping[str, Adaptable],
    mixed: Mapping[str, tuple[str, ...]],
) -> dict[str, str]:
    """What else differs, by name, and how."""
    skipped = {name for weight in weights.values() for name in weight.names}
    skipped |= {key for parts in mixed.values() for key in parts}
    found = {}
    for name, (base, tuned) in pair.keys.items():
        if name in skipped or tuned is None:
            continue
        if base is None:
            found[name] = "is not in the base"
        elif not pair.are_alike(name):
            shapes = pair.tuned.tensors[tuned].shape, pair.base.tensors[base].shape
            found[name] = f"has shape {shapes[0]}, and {shapes[1]} in the base"
        elif pair.is_changed(name):
            found[name] = "has changed"
    for name, parts in mixed.items():
        if name not in weights and any(pair.is_changed(key) for key in parts):
            found[name] = (
                f"has changed, and is stored in {len(parts)} tensors, which do not just stand in "
                "it one after the other; save both models with save_pretrained(directory, "
                "save_original_format=False), which writes it as one"
            )
    return found


def _rank_problems(weights: Mapping[str, Adaptable], size: Size) -> list[tuple[str, str]]:
    if size.rank is None:
        return []
    sites = {name: weight.site for name, weight in weights.items()}
    found = {name: site.rank_problem(min(size.rank, site.max_rank)) for name, site in sites.items()}
    return [(name, problem) for name, problem in found.items() if problem]


def _extracted(
    pair: CheckpointPair, weights: Mapping[str, Adaptable], size: Size, bar: Bar
) -> dict[str, Approximation]:
    parts = {}
    for name, weight in told(weights, lambda weight: sum(map(pair.bytes, weight.names)), bar):
        if (difference := weight.difference(pair)) is not None:
            parts[name] = extract_adapter(difference, weight.site, size)
    return parts


def _outcome(
    model: nn.Module,
    base: str,
    samples: Mapping[str, Sample],
    parts: Mapping[str, Approximation],
    kept: KeptWhole,
) -> Outcome:
    adapters = {name: part.adapter for name, part in parts.items()}
    modules = modules_of(adapters)
    config = LoraConfig(
        **target_fields(
            shortest_suffixes(model, modules) if modules else None, parameters_of(adapters)
        ),
        modules_to_save=kept.modules or None,
        bias=bias_of(kept.bias_owners, adapters),
    )
    bundle = AdapterBundle(
        config=with_settings_of(config, adapters),
        adapters=adapters,
        trained=kept.tensors,
        fingerprint=fingerprint_of(samples),
        **base_facts(model, kept.modules) | {"base_model": base},
    )
    return Outcome(bundle, Deviation.of(parts))
