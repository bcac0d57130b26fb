"""LoRA with a bias, PEFT's `lora_bias`: y = W x + b + s * (B A x + c).

`lora_offset` is c (O,), which PEFT's files call `lora_B.bias`. It starts at zero. The weight alone
does not hold it: a layer's own bias does, where there is one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.functional.linear import add_scaled
from lorakit.variants.base import Host, Tensors
from lorakit.variants.lora import LoRA
from lorakit.variants.site import LinearSite, Shape, Site

OFFSET = "lora_offset"


class LoRABias(LoRA):
    """A pair of low-rank matrices, and a vector that is added to their output."""

    name = "lora_bias"
    title = "LoRA with a bias"
    tensor_names = ("lora_A", "lora_B", OFFSET)
    is_low_rank = False
    beyond_product = "adds a bias"
    is_worth_merging = False
    changes_bias = True

    def refusal(self, site: Site) -> str | None:
        if type(site) is LinearSite:
            return None
        what = "is adapted in slices" if site.slices is not None else site.description
        return f"{what}; lora_bias only supports whole nn.Linear and GPT-2's Conv1D"

    def shapes(self, site: Site, r: int) -> dict[str, Shape]:
        a, b = site.factor_shapes(r)
        return {"lora_A": a, "lora_B": b, OFFSET: (site.out_features,)}

    def derived(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> dict[str, Tensor]:
        return {OFFSET: tensors["lora_B"].new_zeros(site.out_features)}

    def block(self, site: Site, tensors: Tensors, start: int, stop: int) -> None:
        return None

    def bias_delta(self, tensors: Tensors, s: float) -> Tensor:
        offset = tensors[OFFSET]
        return offset.to(torch.promote_types(offset.dtype, torch.float32)) * s

    def forward(self, host: Host, x: Tensor, tensors: Tensors, s: float, dropout: float) -> Tensor:
        y = super().forward(host, x, tensors, s, dropout)
        return add_scaled(y, tensors[OFFSET].to(y.dtype), s)
