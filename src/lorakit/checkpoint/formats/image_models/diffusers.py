"""diffusers' file: the parts of a pipeline in PEFT's names, and their configs in the header.

    unet.<module>.lora_A.weight      lora_adapter_metadata: {"unet.r": 4, "unet.lora_alpha": 8, ...}

Without the header diffusers takes alpha = rank, so lorakit asks for alpha there.
Source: diffusers 0.42.1, `loaders/lora_base.py` and `loaders/peft.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.facts import facts_text, in_own_names, read_facts, with_facts
from lorakit.checkpoint.formats.peft.decoding import decode
from lorakit.checkpoint.formats.peft.encoding import encode, unsupported
from lorakit.checkpoint.formats.peft.layout import ALL_FACTORS, PREFIX, PeftFiles
from lorakit.checkpoint.formats.pipelines import (
    COMPONENTS,
    DIFFUSERS_NAME,
    METADATA,
    component_of,
    is_of_diffusers,
    names_in_pipeline,
    unnamed,
)
from lorakit.checkpoint.formats.tensor_files import load_safetensors, save_safetensors
from lorakit.checkpoint.settings import selecting, targets_of
from lorakit.config import LoraConfig
from lorakit.errors import FormatError, MissingAlphaError
from lorakit.files import atomic_write
from lorakit.foreign_files import parse_json
from lorakit.locks import exclusive
from lorakit.variants import ParameterSite
from lorakit.variants.parameter_site import parameters_of


class Diffusers(Codec):
    """A directory with `pytorch_lora_weights.safetensors`, or that file under any name."""

    name = "diffusers"
    files = (DIFFUSERS_NAME,)

    def sniff(self, path: Path) -> bool:
        return is_of_diffusers(path)

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        file = path / DIFFUSERS_NAME if path.is_dir() else path
        tensors, metadata = load_safetensors(file)
        if not tensors:
            raise FormatError(f"{file} cannot be loaded: it contains no tensors.")
        if odd := [key for key in tensors if not _is_factor(key)]:
            whole = ", ".join(COMPONENTS)
            raise FormatError(
                f"{file} cannot be loaded: its keys begin with a part of a pipeline ({whole}) and "
                "end as PEFT's do; these do not:",
                sorted(odd),
            )
        parts = _parts(tensors)
        configs = _configs(file, metadata, parts, lora_alpha)
        bundle = _joined({part: _decoded(part, parts[part], configs[part]) for part in parts})
        facts = read_facts(metadata)
        adapters = in_own_names(bundle.adapters, facts, file)
        return with_facts(forms.with_adapters(bundle, adapters), facts)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        found = [f"{name} is trained in full" for name in bundle.trained]
        found += [
            f"{name} has {adapter.variant.title}"
            for name, adapter in bundle.adapters.items()
            if adapter.variant.changes_bias
        ]
        found += [f"{n} {ParameterSite.description}" for n in parameters_of(bundle.adapters)]
        return [*unsupported(bundle), *found, *unnamed(names_in_pipeline(bundle))]

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        whole = {name: forms.whole(adapter) for name, adapter in bundle.adapters.items()}
        return forms.with_adapters(bundle, whole)

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        tensors: dict[str, Tensor] = {}
        said: dict[str, Any] = {}
        names = names_in_pipeline(bundle)
        for part, own in _split(bundle, names):
            files = encode(own)
            tensors |= {f"{part}.{k.removeprefix(PREFIX)}": t for k, t in files.tensors.items()}
            said |= {f"{part}.{name}": value for name, value in files.config.items()}
        modules = {there: name for name, there in names.items()}
        metadata = {METADATA: json.dumps(said, sort_keys=True)}
        metadata |= facts_text(bundle, modules=modules)
        with exclusive(path), atomic_write(path / DIFFUSERS_NAME) as temporary:
            save_safetensors(dict(sorted(tensors.items())), temporary, metadata)


def _is_factor(key: str) -> bool:
    return component_of(key) is not None and key.endswith((*ALL_FACTORS,))


def _split(bundle: AdapterBundle, names: Mapping[str, str]) -> Iterator[tuple[str, AdapterBundle]]:
    """Each part of the pipeline with its own names."""
    by_part: dict[str, dict[str, Any]] = {}
    for name, there in sorted(names.items()):
        part, _, rest = there.partition(".")
        by_part.setdefault(part, {})[rest] = bundle.adapters[name]
    for part, adapters in by_part.items():
        config = selecting(bundle.config, adapters)
        own = replace(bundle, config=config, base_class=None, base_model=None)
        yield part, forms.with_adapters(own, adapters)


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts


def _configs(
    file: Path,
    metadata: Mapping[str, str],
    parts: Mapping[str, Mapping[str, Tensor]],
    lora_alpha: float | None,
) -> dict[str, dict[str, Any]]:
    """The config of each part, as PEFT's; raises FormatError for parts without one."""
    if METADATA not in metadata:
        if lora_alpha is None:
            raise MissingAlphaError(
                f"{file} does not store lora_alpha (lora_adapter_metadata in its header). Pass the "
                "value that was used in training (lora_alpha=..., --lora-alpha); diffusers takes "
                "the rank there."
            )
        return {part: _assumed(tensors, lora_alpha) for part, tensors in parts.items()}
    said = parse_json(metadata[METADATA], f"{METADATA} of {file}")
    if not isinstance(said, dict):
        raise FormatError(f"{METADATA} of {file} is {type(said).__name__}; it must be a dict.")
    configs: dict[str, dict[str, Any]] = {part: {"peft_type": "LORA"} for part in parts}
    for key, value in said.items():
        part, _, name = key.partition(".")
        if part in configs:
            configs[part][name] = value
    if bare := [part for part, config in configs.items() if "r" not in config]:
        raise FormatError(f"{METADATA} of {file} says nothing of {', '.join(bare)}.")
    if lora_alpha is not None:
        raise FormatError(f"lora_alpha={lora_alpha:g} was passed, but {file} says it itself.")
    return configs


def _assumed(tensors: Mapping[str, Tensor], lora_alpha: float) -> dict[str, Any]:
    """A config from the tensors alone."""
    ranks = {}
    for key, tensor in tensors.items():
        suffix = next(s for s in ALL_FACTORS if key.endswith(s))
        if ALL_FACTORS[suffix] == "lora_A":
            ranks[key.removesuffix(suffix)] = max(1, len(tensor))
    r = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    return {
        "peft_type": "LORA",
        "r": r,
        "lora_alpha": lora_alpha,
        "target_modules": list(ranks),
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != r},
    }


def _decoded(part: str, tensors: Mapping[str, Tensor], config: dict[str, Any]) -> AdapterBundle:
    try:
        return decode(PeftFiles(config, {PREFIX + key: t for key, t in tensors.items()}, None))
    except FormatError as error:
        raise FormatError(f"{part}: {error.headline}", error.problems) from error


def _joined(parts: Mapping[str, AdapterBundle]) -> AdapterBundle:
    """One bundle whose names begin with their parts."""
    adapters = {f"{part}.{n}": x for part, own in parts.items() for n, x in own.adapters.items()}
    first = next(iter(parts.values()))
    config = LoraConfig(
        **targets_of(adapters),
        variant=first.config.variant,
        use_rslora=first.config.use_rslora,
        lora_dropout=first.config.lora_dropout,
    )
    unknown = {
        f"{part}.{name}": value
        for part, own in parts.items()
        for name, value in own.unknown_settings.items()
    }
    bundle = AdapterBundle(
        config, targets_stated=False, unknown_settings=unknown, format=Diffusers.name
    )
    return forms.with_adapters(bundle, adapters)
