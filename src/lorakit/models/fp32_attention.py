"""Attention in float32 inside a bfloat16 run on a CPU.

torch's bfloat16 kernel for CPUs without AMX took, for forward and backward of 10 sequences of 40
tokens with 12 heads, 11 ms where its float32 kernel took 2; they meet at 512 tokens. Within a step
the gain varied from run to run (`benchmarks/LOG.md`). The products around it stay in bfloat16. With
attention dropout torch takes another path, and nothing is changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lorakit.private.transformers_names import attention_of

NAME = "sdpa_float32"
"""Its name among transformers' attention implementations."""


def use_fastest_attention(model: nn.Module, dtype: str) -> None:
    """Let a transformers model that computes in `dtype` attend in float32 where that is faster."""
    if dtype != "bf16" or attention_of(model) != "sdpa" or _has_fast_bf16_kernel():
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    settable: Any = model
    settable.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' `sdpa` attention, in float32 unless dropout is at work; result as `value`."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if dropout:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, **kwargs
        )
    mask = _float32(attention_mask)
    kwargs = {name: _float32(option) for name, option in kwargs.items()}  # T5's position_bias
    with torch.autocast(query.device.type, enabled=False):
        attended, _ = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), mask, **kwargs
        )
    return attended.to(value.dtype), None


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _has_fast_bf16_kernel() -> bool:
    return torch.accelerator.is_available() or bool(
        torch.cpu.get_capabilities().get("amx_bf16", False)
    )
