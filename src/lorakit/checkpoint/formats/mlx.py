"""MLX's directory: `adapters.safetensors` and the settings that mlx-lm makes its layers with.

    <module>.lora_a (I, R)    .lora_b (R, O)    y + scale * (x lora_a) lora_b

One rank and one scale are for all modules: smaller ranks get zeros, and the rest of a scale goes
into B. DoRA's magnitudes are `m`. Source: mlx-lm 0.32.2, `tuner/utils.py` (`load_adapters`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle, type_problem
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.facts import facts_text, in_own_names, read_facts, with_facts
from lorakit.checkpoint.formats.mlx_directory import CONFIG_NAME, TENSORS_NAME, is_of_mlx
from lorakit.checkpoint.formats.mlx_names import MlxNames, names_of
from lorakit.checkpoint.formats.tensor_files import (
    for_safetensors,
    load_safetensors,
    save_safetensors,
)
from lorakit.checkpoint.settings import targets_of
from lorakit.config import LARGEST_RANK, LoraConfig, alpha_for, is_number
from lorakit.errors import FormatError
from lorakit.files import atomic_write, undone_on_error
from lorakit.foreign_files import read_json
from lorakit.locks import exclusive
from lorakit.variants import AdapterSpec, EmbeddingSite, LinearSite, ModuleAdapter, SlicedSite

_A, _B, _M = "lora_a", "lora_b", "m"
_KINDS = {"lora": "lora", "dora": "dora"}
"""`fine_tune_type` -> variant."""
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "tok_embeddings")
"""Last parts of names under which mlx-lm's models have a table of tokens."""


@dataclass(frozen=True)
class Mlx(Codec):
    """A directory for mlx-lm, of linear layers and tables of tokens; `base` has their names."""

    base: MlxNames | None = None

    name = "mlx"
    files = (CONFIG_NAME, TENSORS_NAME)
    needs_base = True

    def sniff(self, path: Path) -> bool:
        return is_of_mlx(path)

    def for_base(self, config: Mapping[str, Any]) -> Mlx:
        return replace(self, base=names_of(config))

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        directory = path if path.is_dir() else path.parent
        tensors, metadata = load_safetensors(directory / TENSORS_NAME)
        said, facts = read_json(directory / CONFIG_NAME), read_facts(metadata)
        problems = _config_problems(said)
        if lora_alpha is not None:
            problems.append(f"lora_alpha={lora_alpha:g} was passed, but the file says its scale")
        problems += [p for key, tensor in tensors.items() if (p := type_problem(key, tensor))]
        if problems:
            raise FormatError(f"{directory} cannot be loaded:", problems)
        variant = _KINDS[said.get("fine_tune_type", "lora")]
        settings = said["lora_parameters"]
        adapters = _adapters(tensors, variant, settings, facts.get("transposed") or (), problems)
        problems += _scale_problems(settings["scale"], facts.get("scale"))
        if problems:
            raise FormatError(f"{directory} cannot be loaded:", problems)
        if self.base is not None and "modules" not in facts:
            adapters = {self.base.here(name): adapter for name, adapter in adapters.items()}
        adapters = in_own_names(adapters, facts, directory)
        config = LoraConfig(
            lora_dropout=settings.get("dropout", 0.0),
            **targets_of(adapters),
            variant=variant,
        )
        bundle = AdapterBundle(config, format=self.name)
        return with_facts(forms.with_adapters(bundle, adapters), facts)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        if bundle.method != "lora":
            return [f"its method is {bundle.method}; the format has LoRA"]
        if self.base is None:
            return ["the format has mlx-lm's names of the base: pass --base (base=its config)"]
        found = [f"{name} is trained in full" for name in bundle.trained]
        variants = sorted({x.spec.variant for x in bundle.adapters.values()})
        if len(variants) > 1:
            found.append(f"its modules differ in their variants, {', '.join(variants)}")
        unknown = dict.fromkeys(self.base.problem(name) for name in bundle.adapters)
        found += [problem for problem in unknown if problem is not None]
        pairs = bundle.adapters.items()
        return found + [p for name, x in pairs if (p := _problem(name, x)) is not None]

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        adapters = forms.with_one_rank({n: forms.whole(x) for n, x in bundle.adapters.items()})
        return forms.with_adapters(bundle, forms.with_one_alpha(adapters))

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        assert self.base is not None
        own = {self.base.there(name): name for name in bundle.adapters}
        tensors = {
            f"{name}.{_LEAVES[leaf]}": tensor.t() if leaf != "lora_magnitude_vector" else tensor
            for name, adapter in zip(own, bundle.adapters.values(), strict=True)
            for leaf, tensor in adapter.tensors.items()
        }
        tensors = for_safetensors(dict(sorted(tensors.items())))
        turned = [
            n for n, m in own.items() if getattr(bundle.adapters[m].site, "transposed", False)
        ]
        renamed = {"modules": own} if any(n != module for n, module in own.items()) else {}
        said = _config(bundle, own)
        scale = said["lora_parameters"]["scale"]
        metadata = facts_text(bundle, transposed=turned, scale=scale, **renamed)
        text = json.dumps(said, indent=4, sort_keys=True)
        with (  # the tensors are replaced before the config: they say which scale is theirs
            exclusive(path),
            undone_on_error(path / TENSORS_NAME),
            atomic_write(path / CONFIG_NAME) as config,
            atomic_write(path / TENSORS_NAME) as file,
        ):
            save_safetensors(tensors, file, metadata)
            config.write_text(text, encoding="utf-8")


_LEAVES = {"lora_A": _A, "lora_B": _B, "lora_magnitude_vector": _M}


def _problem(name: str, adapter: ModuleAdapter) -> str | None:
    """Why mlx-lm has no such adapter; None if it has."""
    site = adapter.site
    if adapter.spec.variant not in _KINDS.values():
        return f"{name} has {adapter.variant.title}, which mlx-lm does not compute"
    if site is None:
        return f"{name} is of an unknown type; load the adapter onto its model first"
    if type(site) not in (LinearSite, SlicedSite, EmbeddingSite):
        return f"{name} {site.description}; mlx-lm adapts linear layers and tables of tokens"
    if isinstance(site, EmbeddingSite) and name.rpartition(".")[2] not in _EMBEDDINGS:
        known = ", ".join(_EMBEDDINGS)
        return f"{name} is an embedding; of tables mlx-lm's models have the tokens' ({known})"
    return None


def _config(bundle: AdapterBundle, names: Iterable[str]) -> dict[str, Any]:
    """mlx-lm's settings: it adapts the modules with these names in the last so many layers."""
    spec = next(iter(bundle.adapters.values())).spec
    layers, keys = set(), set()
    for name in names:
        parts = name.split(".")
        place = next((n for n, part in enumerate(parts) if part.isdigit()), None)
        keys.add(name if place is None else ".".join(parts[place + 1 :]))
        layers |= set() if place is None else {int(parts[place])}
    return {
        "fine_tune_type": spec.variant,
        "num_layers": _ALL_LAYERS if layers else 0,
        "lora_parameters": {
            "rank": spec.r,
            "scale": spec.scaling,
            "dropout": spec.lora_dropout,
            "keys": sorted(keys),
        },
    }


_ALL_LAYERS = 10_000
"""More than any model has: mlx-lm takes the last so many, and an adapter may be of the first."""


def _config_problems(said: Any) -> list[str]:
    """What is wrong with adapter_config.json."""
    settings = said.get("lora_parameters") if isinstance(said, Mapping) else None
    if not isinstance(settings, Mapping):
        return [f"{CONFIG_NAME} has no lora_parameters"]
    kind: Any = said.get("fine_tune_type", "lora")
    scale: Any = settings.get("scale")
    dropout: Any = settings.get("dropout", 0.0)
    checks = {
        f"fine_tune_type is {kind!r}; only lora and dora are adapters": kind not in [*_KINDS],
        f"scale is {scale!r}; it must be a number > 0": not is_number(scale) or scale <= 0,
        f"dropout is {dropout!r}; it must be in [0, 1)": not is_number(dropout)
        or not 0 <= dropout < 1,
    }
    return [problem for problem, holds in checks.items() if holds]


def _scale_problems(scale: float, saved: float | None) -> list[str]:
    """Whether the config's scale is another one than lorakit wrote beside the tensors."""
    if saved in (None, scale):
        return []
    return [
        f"scale is {scale!r} in {CONFIG_NAME}, and was {saved!r} when the tensors were saved; if "
        "that save was interrupted, save the adapter again"
    ]


def _adapters(
    tensors: Mapping[str, Tensor],
    variant: str,
    settings: Mapping[str, Any],
    transposed: Any,
    problems: list[str],
) -> dict[str, ModuleAdapter]:
    """The adapters by name; what is wrong is added to `problems`."""
    leaves = (_A, _B, *((_M,) if variant == "dora" else ()))
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    expected = {f"{name}.{leaf}" for name in names for leaf in leaves}
    problems += [f"{key} is unexpected" for key in sorted(tensors.keys() - expected)]
    problems += [f"{key} is missing" for key in sorted(expected - tensors.keys())]
    ranks: Counter[int] = Counter()
    found = {}
    for name in names if not problems else ():
        parts = {leaf: tensors[f"{name}.{leaf}"] for leaf in leaves}
        a, b = parts[_A], parts[_B]
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != len(b) or 0 in (*a.shape, *b.shape):
            shapes = f"lora_a {tuple(a.shape)} and lora_b {tuple(b.shape)}"
            problems.append(f"{name}: expected two matrices of one rank, got {shapes}")
            continue
        if len(b) > LARGEST_RANK:
            problems.append(f"{name} has rank {len(b):,}; the largest is {LARGEST_RANK:,}")
            continue
        ranks[len(b)] += 1
        found[name] = _adapter(name, parts, variant, settings, name in transposed)
    if len(ranks) > 1 or (ranks and settings.get("rank", 0) not in (0, *ranks)):
        said = settings.get("rank")
        problems.append(f"its modules have the ranks {sorted(ranks)}, and its config says {said}")
    return found


def _adapter(
    name: str,
    parts: Mapping[str, Tensor],
    variant: str,
    settings: Mapping[str, Any],
    transposed: bool,
) -> ModuleAdapter:
    a, b = parts[_A].t().contiguous(), parts[_B].t().contiguous()
    alpha = alpha_for(settings["scale"], len(a), use_rslora=False)
    spec = AdapterSpec(len(a), alpha, settings.get("dropout", 0.0), variant=variant)
    tensors = {"lora_A": a, "lora_B": b}
    if variant == "dora":
        tensors["lora_magnitude_vector"] = parts[_M]
    if name.rpartition(".")[2] in _EMBEDDINGS:
        return ModuleAdapter(spec, tensors, EmbeddingSite(a.shape[1], len(b)))
    return ModuleAdapter(spec, tensors, LinearSite(a.shape[1], len(b), transposed))
