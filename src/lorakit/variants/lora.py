"""LoRA: dW = s * B A (arXiv 2106.09685, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lorakit.variants.base import Host, Tensors, Variant
from lorakit.variants.site import Pair, Site


class LoRA(Variant):
    """A pair of low-rank matrices, for any site."""

    name = "lora"
    title = "LoRA"
    is_low_rank = True
    takes_dropout = True

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return site.product(tensors["lora_A"], tensors["lora_B"], s)

    def block(
        self, site: Site, tensors: Tensors, start: int, stop: int
    ) -> tuple[Site, dict[str, Tensor]] | None:
        found = site.block(tensors["lora_A"], tensors["lora_B"], start, stop)
        if found is None:
            return None
        there, (a, b) = found
        return there, {"lora_A": a, "lora_B": b}

    def factors(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Iterator[Pair]:
        for a_RI, b_OR in site.pairs(tensors["lora_A"], tensors["lora_B"]):
            yield a_RI, b_OR.to(torch.promote_types(b_OR.dtype, torch.float32)) * s

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        return host.adapted(x, tensors["lora_A"], tensors["lora_B"], s, dropout)
