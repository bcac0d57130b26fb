"""Tiny mixtures of experts, with the two ways in which transformers stores them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

IDS = torch.arange(12).view(2, 6)
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
ALONE: dict[str, Any] = {"target_modules": [], "target_parameters": EXPERTS}
"""Of a LoraConfig that adapts nothing else."""
_SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 50, "num_experts_per_tok": 2, "head_dim": 8,
    "pad_token_id": 0,
}  # fmt: skip
_MODELS: dict[str, tuple[type[nn.Module], Any]] = {
    "mixtral": (MixtralForCausalLM, MixtralConfig(**_SIZES, num_local_experts=4)),
    "qwen3_moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig(**_SIZES, num_experts=3, moe_intermediate_size=12),
    ),
    "gpt_oss": (GptOssForCausalLM, GptOssConfig(**_SIZES, num_local_experts=4)),
}
NAMES = tuple(_MODELS)


def model_of(name: str) -> Any:
    """The model of this name, with the same weights each time."""
    kind, config = _MODELS[name]
    torch.manual_seed(0)
    model = kind(type(config)(**config.to_dict()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def logits(model: Any) -> Tensor:
    """Of one batch."""
    found: Tensor = model(input_ids=IDS).logits
    return found
