"""`LoraConfig` and the values in it: frozen, validated on construction, standard library only."""

from lorakit.config.lora_config import ALL_LINEAR, BIASES, INITIALISERS, Bias, LoraConfig
from lorakit.config.values import alpha_for, is_bias, is_name, is_number, scaling

__all__ = [
    "ALL_LINEAR",
    "BIASES",
    "INITIALISERS",
    "Bias",
    "LoraConfig",
    "alpha_for",
    "is_bias",
    "is_name",
    "is_number",
    "scaling",
]
