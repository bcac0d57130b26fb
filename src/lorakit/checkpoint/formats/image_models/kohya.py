"""kohya's file: a scale for each module, and names whose dots have become underscores.

    lora_unet_down_blocks_0_....lora_down.weight (R, I)    .lora_up.weight (O, R)    .alpha ()
    lora_te_text_model_..., or lora_te1_ and lora_te2_ where there are two text encoders

Such names cannot be turned back without the model, so lorakit's header has the modules' own.
A module without alpha has scale 1. lorakit writes one alpha for all, since diffusers 0.42.1 finds
no module for those that differ. Source: kohya-ss/sd-scripts, `networks/lora.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, type_problem
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.facts import facts_text, in_own_names, read_facts, with_facts
from lorakit.checkpoint.formats.pipelines import (
    KOHYA_ALONE,
    KOHYA_PREFIXES,
    component_of,
    is_of_kohya,
    names_in_pipeline,
    unnamed,
    with_text_model,
)
from lorakit.checkpoint.formats.tensor_files import (
    for_safetensors,
    load_safetensors,
    save_safetensors,
)
from lorakit.checkpoint.settings import targets_of
from lorakit.config import LARGEST_RANK, LoraConfig
from lorakit.errors import FormatError
from lorakit.files import atomic_write, directory_for_writing
from lorakit.variants import AdapterSpec, ConvSite, LinearSite, ModuleAdapter, SlicedSite

_DOWN, _UP, _ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"


class Kohya(Codec):
    """One file `*.safetensors`, for a UNet and its text encoders."""

    name = "kohya"
    suffixes = (".safetensors",)

    def sniff(self, path: Path) -> bool:
        return is_of_kohya(path)

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        tensors, metadata = load_safetensors(path)
        facts = read_facts(metadata)
        problems = [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
        if lora_alpha is not None:
            problems.append(f"lora_alpha={lora_alpha:g} was passed, but each module says its own")
        pairs = _adapters(tensors, problems)
        if problems:
            raise FormatError(f"{path} cannot be loaded:", problems)
        adapters = in_own_names(pairs, facts, path)
        bundle = AdapterBundle(
            LoraConfig(**targets_of(adapters)),
            spelling=_spelling(pairs) if "modules" not in facts else None,
            targets_stated=False,
            format=self.name,
        )
        return with_facts(forms.with_adapters(bundle, adapters), facts)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        if bundle.method != "lora":
            return [f"its method is {bundle.method}; the format has LoRA"]
        names = names_in_pipeline(bundle)
        trained = [f"{name} is trained in full" for name in bundle.trained]
        pairs = ((names[name], adapter) for name, adapter in bundle.adapters.items())
        found = [p for there, adapter in pairs if (p := _problem(there, adapter)) is not None]
        spelt: dict[str, list[str]] = {}
        for name, there in names.items():
            spelt.setdefault(there.replace(".", "_"), []).append(name)
        twice = [f"{' and '.join(n)} have one name there" for n in spelt.values() if len(n) > 1]
        return [*trained, *unnamed(names), *found, *twice]

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        adapters = {name: forms.whole(adapter) for name, adapter in bundle.adapters.items()}
        return forms.with_adapters(bundle, forms.with_one_alpha(adapters, forms.is_float32))

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        names = names_in_pipeline(bundle)
        prefixes = _prefixes(names)
        tensors: dict[str, Tensor] = {}
        modules = {}
        for name, adapter in bundle.adapters.items():
            there = _spelt(names[name], prefixes)
            modules[there] = name
            tensors[there + _DOWN] = adapter.tensors["lora_A"]
            tensors[there + _UP] = adapter.tensors["lora_B"]
            tensors[there + _ALPHA] = torch.tensor(float(adapter.spec.lora_alpha))
        tensors = for_safetensors(dict(sorted(tensors.items())))
        with directory_for_writing(path.parent), atomic_write(path) as temporary:
            save_safetensors(tensors, temporary, facts_text(bundle, modules=modules))


def _problem(name: str, adapter: ModuleAdapter) -> str | None:
    """Why the format has no such adapter; None if it has."""
    site, part = adapter.site, component_of(name)
    if part is not None and part not in KOHYA_PREFIXES:
        return f"{name}: kohya's files name a {part} as its first authors did, not as diffusers"
    if adapter.spec.variant != "lora":
        return f"{name} has {adapter.variant.title}, which diffusers does not read in these files"
    if site is None:
        return f"{name} is of an unknown type; load the adapter onto its model first"
    if type(site) in (LinearSite, SlicedSite):
        return None
    if isinstance(site, ConvSite) and not site.square and site.groups == 1:
        return None
    return f"{name} {site.description} that the format does not have"


def _prefixes(names: Mapping[str, str]) -> dict[str, str]:
    """What stands for a part where these names in a pipeline are written."""
    parts = {component_of(name) for name in names.values()}
    alone = {} if "text_encoder_2" in parts else {"text_encoder": KOHYA_ALONE}
    return {**KOHYA_PREFIXES, **alone}


def _spelt(name: str, prefixes: Mapping[str, str]) -> str:
    part, _, rest = name.partition(".")
    return prefixes[part] + rest.replace(".", "_")


def _spelling(names: Mapping[str, object]) -> Callable[[str], str | None]:
    """How this file writes a module's name: of a whole pipeline, or of the one part it is for."""
    prefixes = {part: p for part, p in KOHYA_PREFIXES.items() if _has(names, p)}
    if _has(names, KOHYA_ALONE):
        prefixes["text_encoder"] = KOHYA_ALONE
    only = next(iter(prefixes)) if len(prefixes) == 1 else None

    def spelling(module: str) -> str | None:
        if component_of(module) in prefixes:
            return _spelt(with_text_model(module), prefixes)
        if only is None:
            return None
        return _spelt(with_text_model(f"{only}.{module}"), prefixes)

    return spelling


def _has(names: Mapping[str, object], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _adapters(tensors: Mapping[str, Tensor], problems: list[str]) -> dict[str, ModuleAdapter]:
    """The adapters by the file's names; what is wrong is added to `problems`."""
    names = dict.fromkeys(key.removesuffix(_DOWN) for key in tensors if key.endswith(_DOWN))
    known = {f"{name}{leaf}" for name in names for leaf in (_DOWN, _UP, _ALPHA)}
    problems += [
        f"{key} is unexpected: only lora_down, lora_up and alpha are read"
        for key in sorted(tensors.keys() - known)
    ]
    found = {}
    for name in names:
        down, up, alpha = (tensors.get(f"{name}{leaf}") for leaf in (_DOWN, _UP, _ALPHA))
        if up is None or down is None:
            problems.append(f"{name}{_UP} is missing")
        elif problem := _shape_problem(down, up, alpha):
            problems.append(f"{name}: {problem}")
        else:
            scale = float(len(down)) if alpha is None else float(alpha)
            spec = AdapterSpec(len(down), int(scale) if scale.is_integer() else scale)
            site = (
                LinearSite(down.shape[1], len(up))
                if down.ndim == 2
                else ConvSite((len(up), *down.shape[1:]))
            )
            found[name] = ModuleAdapter(spec, {"lora_A": down, "lora_B": up}, site)
    return found


def _shape_problem(down: Tensor, up: Tensor, alpha: Tensor | None) -> str | None:
    """Why these are no pair with a scale."""
    shapes = f"lora_down {tuple(down.shape)} and lora_up {tuple(up.shape)}"
    if down.ndim not in (2, 4) or up.ndim != down.ndim or 0 in (*down.shape, *up.shape):
        return f"expected two matrices or two kernels, got {shapes}"
    if len(down) != up.shape[1] or len(down) > LARGEST_RANK or up[0, 0].numel() != 1:
        return f"{shapes} do not fit together, or their rank is above {LARGEST_RANK}"
    if alpha is not None and (alpha.numel() != 1 or not 0 < float(alpha) < float("inf")):
        return f"alpha is {alpha.flatten()[:3].tolist()}; it must be one number > 0"
    return None
