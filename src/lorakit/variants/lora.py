"""LoRA: dW = s * B A (arXiv 2106.09685, section 4.1)."""

from __future__ import annotations

from torch import Tensor

from lorakit.variants.base import Host, Tensors, Variant
from lorakit.variants.site import Site


class LoRA(Variant):
    """A pair of low-rank matrices, for any site."""

    name = "lora"
    title = "LoRA"
    is_low_rank = True
    takes_dropout = True

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return site.product(tensors["lora_A"], tensors["lora_B"], s)

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        return host.adapted(x, tensors["lora_A"], tensors["lora_B"], s, dropout)
