"""torch layers with a frozen weight and a trainable low-rank update."""

from lorakit.layers.conv import Conv1d, Conv2d, Conv3d, ConvLoRA
from lorakit.layers.conversion import register
from lorakit.layers.embedding import Embedding
from lorakit.layers.linear import Linear, MergedLinear
from lorakit.layers.lora_layer import LoRALayer
from lorakit.layers.state import lora_state_dict, mark_only_lora_as_trainable

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvLoRA",
    "Embedding",
    "Linear",
    "LoRALayer",
    "MergedLinear",
    "lora_state_dict",
    "mark_only_lora_as_trainable",
    "register",
]
