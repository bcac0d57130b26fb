"""`LoraConfig` and the values in it: frozen, validated on construction, standard library only."""

from lorakit.config.lora_config import (
    ALL_LINEAR,
    BIASES,
    INITIALISERS,
    LARGEST_RANK,
    Bias,
    LoraConfig,
)
from lorakit.config.patterns import Pattern
from lorakit.config.plain_keys import is_plain
from lorakit.config.values import alpha_for, is_bias, is_index, is_name, is_number, scaling

__all__ = [
    "ALL_LINEAR",
    "BIASES",
    "INITIALISERS",
    "LARGEST_RANK",
    "Bias",
    "LoraConfig",
    "Pattern",
    "alpha_for",
    "is_bias",
    "is_index",
    "is_name",
    "is_number",
    "is_plain",
    "scaling",
]
