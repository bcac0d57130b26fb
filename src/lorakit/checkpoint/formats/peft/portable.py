"""PEFT's directory in the form that every reader computes rightly, however little it reads of it.

One rank, alpha = r, so that the scale is 1 by any formula; only lora_A and lora_B of linear layers.
Releases of vLLM before 0.32 apply one scale to all layers, and llama.cpp's converter passes over
`use_rslora` and `alpha_pattern`: here both are right. What is no such pair is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from lorakit.checkpoint import vllm
from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.peft.codec import Peft
from lorakit.checkpoint.formats.peft.encoding import unsupported


class Portable(Peft):
    """What vLLM and llama.cpp's converter read as the same function."""

    name = "portable"
    read_as = Peft.name

    heads: Collection[str] = ()
    """Modules that may stand in the file in full."""

    def sniff(self, path: Path) -> bool:
        return False  # its files are PEFT's

    def is_default_for(self, bundle: AdapterBundle) -> bool:
        return False

    def problems(self, bundle: AdapterBundle) -> list[str]:
        return [*unsupported(bundle), *_not_portable(bundle, self.heads)]

    def in_form(self, bundle: AdapterBundle) -> AdapterBundle:
        adapters = forms.with_one_rank({n: forms.whole(x) for n, x in bundle.adapters.items()})
        plain = {name: forms.scaled_to(x, 1) for name, x in adapters.items()}
        return forms.with_adapters(bundle, plain)


class Vllm(Portable):
    """The portable form, with what vLLM accepts besides, and no rank that it refuses."""

    name = "vllm"
    heads = vllm.HEADS

    def problems(self, bundle: AdapterBundle) -> list[str]:
        found = super().problems(bundle)
        return found or vllm.obstacles(self.in_form(bundle))

    def reader_options(self, form: AdapterBundle) -> Mapping[str, float]:
        rank = vllm.max_rank(form)
        return {} if rank is None else {"max_lora_rank": rank}


def _not_portable(bundle: AdapterBundle, heads: Collection[str]) -> Iterator[str]:
    for name, adapter in bundle.adapters.items():
        site = adapter.site
        if adapter.spec.variant != "lora":
            yield f"{name} has {adapter.variant.title}, not lora_A and lora_B alone"
        elif site is not None and site.kind != "linear":
            yield f"{name} {site.description}; only linear layers are read by every tool"
    for name in bundle.trained:
        if name.rpartition(".")[0] not in heads:
            yield f"{name} is trained in full; the form has lora_A and lora_B alone"
