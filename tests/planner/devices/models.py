"""The model that two devices divide in these tests, and how."""

from __future__ import annotations

from transformers import LlamaConfig

import lorakit as lora
from lorakit.planner.settings import StepSettings

SMALL = LlamaConfig(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=96,
    vocab_size=333,
)
"""A vocabulary that no even number of devices divides."""
LORA = lora.LoraConfig(r=3, target_modules="all-linear")
"""A rank that two devices do not divide."""


def cells() -> dict[str, StepSettings]:
    """What is measured in real processes, by name."""
    kinds = {"ddp": ("ddp", True), "fsdp": ("fsdp", True), "fsdp_kept": ("fsdp", False)}
    sharing_rows = {
        f"{method}_{name}": _cell(method, config, "adamw", parallel, reshard)
        for name, (parallel, reshard) in kinds.items()
        for method, config in (("full", None), ("lora", LORA))
    }
    # transformers' parallel modules are no plain ones, and fused AdamW takes no part of a model
    return {**sharing_rows, "full_tp": _cell("full", None, "adamw_unfused", "tp", True)}


def _cell(
    method: str, config: lora.LoraConfig | None, optimizer: str, parallel: str, reshard: bool
) -> StepSettings:
    return StepSettings(
        method,
        config,
        8,
        64,
        "fp32",
        optimizer,
        devices=2,
        parallel=parallel,
        reshard_after_forward=reshard,
    )
