"""A kind of adapter as a program outside of lorakit would add it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lorakit.variants import VARIANTS, AdapterSpec, LinearSite, Site, Tensors, Variant, register


class Hadamard(Variant):
    """dW = s * (B A) * C, element by element, with a frozen mask C (O, I)."""

    name = "hadamard"
    title = "Hadamard"
    tensor_names = ("lora_A", "lora_B", "mask")
    frozen = frozenset({"mask"})

    def refusal(self, site: Site) -> str | None:
        return None if type(site) is LinearSite else f"{site.description}; hadamard is for linear"

    def shapes(self, site: Site, r: int) -> dict[str, tuple[int, ...]]:
        a, b = site.factor_shapes(r)
        return {"lora_A": a, "lora_B": b, "mask": site.weight_shape}

    def initial(self, site: Site, weight: Tensor, spec: AdapterSpec) -> dict[str, Tensor]:
        a, b = site.initial_factors(weight, spec.r, spec.init_lora_weights)
        mask = torch.arange(weight.numel()).view(weight.shape) % 2
        return {"lora_A": a, "lora_B": b, "mask": mask.to(a.dtype)}

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return site.product(tensors["lora_A"], tensors["lora_B"], s) * tensors["mask"]


@contextmanager
def registered() -> Iterator[Variant]:
    """It is known inside."""
    before, variant = dict(VARIANTS), Hadamard()
    register(variant)
    try:
        yield variant
    finally:
        VARIANTS.clear()
        VARIANTS.update(before)
