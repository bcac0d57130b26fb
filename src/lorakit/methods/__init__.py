"""What LoRA is compared with: full fine-tuning and a head on the frozen body."""

from __future__ import annotations

from torch import nn

from lorakit.errors import ConfigError

__all__ = ["train_full", "train_head"]


def train_full(model: nn.Module) -> int:
    """Let every parameter train; returns their number."""
    return sum(parameter.requires_grad_(True).numel() for parameter in model.parameters())


def train_head(model: nn.Module, modules: list[str]) -> int:
    """Freeze everything but these modules; returns the number of trainable parameters.

    Raises ConfigError if there is nothing to train.
    """
    prefixes = tuple(f"{module}." for module in modules)
    count = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(prefixes) and name.startswith(prefixes))
        count += parameter.numel() if parameter.requires_grad else 0
    if count == 0:
        raise ConfigError(f"method: head needs a head, and {type(model).__name__} has none.")
    return count
