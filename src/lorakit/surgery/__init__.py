"""Edits of any nn.Module, independent of LoRA."""

from lorakit.surgery.split import split_linear, split_linear_state_dict

__all__ = ["split_linear", "split_linear_state_dict"]
