"""An adapter for llama.cpp: a GGUF file whose tensors are named by its own models.

    blk.0.attn_q.weight.lora_a (R, I)   .lora_b (O, R)     scale adapter.lora.alpha / R
    token_embd.weight.lora_a (V, R)     .lora_b (O, R)

Source: llama.cpp, `src/llama-adapter.cpp` and `convert_lora_to_gguf.py`. The header under `lorakit`
has the modules' own names, so that a file of lorakit's is read without its base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.checksum import CHECKSUM, require_intact, with_checksum
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.codec import Codec
from lorakit.checkpoint.formats.facts import facts_text, read_facts
from lorakit.checkpoint.formats.gguf.architectures import (
    Architecture,
    architecture_of,
    interleaved,
)
from lorakit.checkpoint.formats.gguf.decoding import (
    ALPHA,
    KINDS,
    TABLE,
    A,
    B,
    decode,
    require_adapter,
)
from lorakit.checkpoint.formats.gguf.reading import MAGIC, read_gguf
from lorakit.checkpoint.formats.gguf.writing import write_gguf
from lorakit.checkpoint.formats.tensor_files import for_safetensors
from lorakit.foreign_files import open_file
from lorakit.variants import EmbeddingSite, LinearSite, ModuleAdapter, SlicedSite

_HEAD = "output.weight"


@dataclass(frozen=True)
class Gguf(Codec):
    """One file `*.gguf`; `base` is what its base is in llama.cpp."""

    base: Architecture | None = None

    name = "gguf"
    suffixes = (".gguf",)
    needs_base = True

    def sniff(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open_file(path) as opened:
            return opened.read(len(MAGIC)) == MAGIC

    def for_base(self, config: Mapping[str, Any]) -> Gguf:
        return replace(self, base=architecture_of(config))

    def decode(self, path: Path, lora_alpha: float | None) -> AdapterBundle:
        metadata, tensors = read_gguf(path, partial(require_adapter, path))
        texts = {key: str(value) for key, value in metadata.items()}
        require_intact(path, texts, tensors)
        return decode(path, metadata, read_facts(texts), tensors, self.base, lora_alpha)

    def problems(self, bundle: AdapterBundle) -> list[str]:
        if bundle.method != "lora":
            return [f"its method is {bundle.method}; the format has LoRA"]
        if self.base is None:
            return ["the format has llama.cpp's names of the base: pass --base (base=its config)"]
        trained = [f"{name} is trained in full" for name in bundle.trained]
        pairs = bundle.adapters.items()
        return trained + [p for n, x in pairs if (p := _problem(n, x, self.base)) is not None]

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        adapters = {name: _in_types(forms.whole(x)) for name, x in bundle.adapters.items()}
        adapters = forms.with_one_alpha(adapters, forms.is_float32)
        return forms.with_adapters(bundle, adapters)

    def write(self, bundle: AdapterBundle, path: Path) -> None:
        assert self.base is not None
        tensors: dict[str, Tensor] = {}
        modules, heads = {}, {}
        for name, adapter in bundle.adapters.items():
            there = str(self.base.tensor_of(name))
            a, b = adapter.tensors["lora_A"], adapter.tensors["lora_B"]
            modules[there] = name
            if (count := self.base.heads_of(there)) is not None:
                heads[there], b = count, interleaved(b, count)
            tensors |= {there + A: a.t() if there == TABLE else a, there + B: b}
        values: dict[str, str | float] = {
            **KINDS,
            ALPHA: float(bundle.config.lora_alpha),
            **facts_text(bundle, modules=modules, heads=heads),
        }
        tensors = for_safetensors(dict(sorted(tensors.items())))
        texts = {"general.architecture": self.base.name, **values}
        checked = with_checksum({key: str(value) for key, value in texts.items()}, tensors)
        write_gguf(path, self.base.name, {**values, CHECKSUM: checked[CHECKSUM]}, tensors)


def _problem(name: str, adapter: ModuleAdapter, base: Architecture) -> str | None:
    """Why llama.cpp has no such adapter; None if it has."""
    site, there = adapter.site, base.tensor_of(name)
    dtypes = {tensor.dtype for tensor in adapter.tensors.values()}
    if adapter.spec.variant != "lora":
        return f"{name} has {adapter.variant.title}, which llama.cpp does not compute"
    if site is None:
        return f"{name} is of an unknown type; load the adapter onto its model first"
    if type(site) not in (LinearSite, SlicedSite, EmbeddingSite):
        return f"{name} {site.description}; the format has linear layers and the table of tokens"
    if there is None or isinstance(site, EmbeddingSite) != (there == TABLE):
        return f"{name} has no tensor in llama.cpp's {base.name}"
    if base.tied and there in (TABLE, _HEAD):
        return f"{name} is tied: llama.cpp has one tensor for head and table, which are used apart"
    heads = base.heads_of(there)
    if heads is not None and site.out_features % (2 * heads):
        return f"{name} has {site.out_features} rows, which are no {heads} heads"
    if torch.float64 in dtypes:
        return f"{name} has float64 values; llama.cpp has float32"
    return None


def _in_types(adapter: ModuleAdapter) -> ModuleAdapter:
    """bfloat16 as float32, which `gguf` writes from numpy."""
    wide = {
        name: t.float() if t.dtype == torch.bfloat16 else t for name, t in adapter.tensors.items()
    }
    return replace(adapter, tensors=wide)
