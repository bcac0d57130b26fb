"""From an AdapterBundle to loralib's state dict: what its layers load with `strict=False`.

loralib scales by lora_alpha / r, with one lora_alpha that its user writes into the model's code, so
an adapter with scales of its own gets them into B. Its convolutions have matrices of a square
kernel's sides, and keep the convolution itself in a child called conv.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.checkpoint.formats import forms
from lorakit.checkpoint.formats.tensor_files import for_safetensors
from lorakit.files import atomic_write, directory_for_writing
from lorakit.functional import conv
from lorakit.variants import ConvSite, EmbeddingSite, LinearSite, ModuleAdapter
from lorakit.variants.site import SlicedSite

_SITES = (LinearSite, SlicedSite, EmbeddingSite, ConvSite)


def unsupported(bundle: AdapterBundle) -> list[str]:
    """What of the bundle loralib's layers do not have."""
    if bundle.method != "lora":
        return [f"its method is {bundle.method}; loralib's files have LoRA"]
    copies = [
        f"{name} is the base's own weight beside its adapter; where it is as large as the base's, "
        "lorakit convert --base MODEL leaves it out"
        for name in bundle.base_copies
    ]
    return copies + list(_unsupported_adapters(bundle))


def _unsupported_adapters(bundle: AdapterBundle) -> Iterator[str]:
    for name, adapter in bundle.adapters.items():
        site = adapter.site
        if adapter.spec.variant != "lora":
            yield f"{name} has {adapter.variant.title}, which loralib does not compute"
        elif site is not None and type(site) not in _SITES:
            yield f"{name} {site.description}; loralib has no such layer"
        elif isinstance(site, ConvSite) and not site.square:
            if not conv.fits_square_form(site.shape[2:]):
                kernel = " x ".join(map(str, site.shape[2:]))
                yield f"{name} has a kernel of {kernel}; loralib's convolutions have square ones"
            elif site.groups > 1:
                yield f"{name} is a grouped convolution, whose matrices loralib mixes over groups"


def in_form(bundle: AdapterBundle) -> AdapterBundle:
    """The bundle with one lora_alpha and loralib's matrices of convolutions."""
    adapters = {name: _squared(adapter) for name, adapter in bundle.adapters.items()}
    return forms.with_adapters(bundle, forms.with_one_alpha(adapters))


def save(bundle: AdapterBundle, file: Path) -> None:
    """Write the state dict of a bundle `in_form`."""
    with directory_for_writing(file.parent), atomic_write(file) as temporary:
        torch.save(for_safetensors(_state_dict(bundle)), temporary)


def _state_dict(bundle: AdapterBundle) -> dict[str, Tensor]:
    convolutions = {n for n, x in bundle.adapters.items() if isinstance(x.site, ConvSite)}
    tensors = {
        f"{name}.{leaf}": tensor
        for name, adapter in bundle.adapters.items()
        for leaf, tensor in adapter.tensors.items()
    }
    for name, tensor in bundle.trained.items():
        owner, _, leaf = name.rpartition(".")
        tensors[f"{owner}.conv.{leaf}" if owner in convolutions else name] = tensor
    return tensors


def _squared(adapter: ModuleAdapter) -> ModuleAdapter:
    """An adapter of kernels as the matrices with the same dW."""
    site = adapter.site
    if not isinstance(site, ConvSite) or site.square:
        return adapter
    a, b = conv.kernel_as_square_form(adapter.tensors["lora_A"], adapter.tensors["lora_B"])
    return adapter.with_factors(a, b, site=ConvSite(site.shape, site.groups, square=True))
