"""A run whose loss or gradient is no longer finite stops at that step, before it moves a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lorakit.errors import TrainingError


def require_finite_step(
    loss: Tensor, parameters: Iterable[nn.Parameter], step: int, args: TrainingArguments
) -> None:
    """Raise TrainingError if the step's loss or the norm of its gradients is NaN or infinite."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients).to(loss.device, loss.dtype)
    found = torch.stack([loss.detach(), norm]).tolist()  # one wait for the device
    for what, value in zip(("loss", "norm of the gradients"), found, strict=True):
        require_finite(value, f"the {what} at step {step}", args)


def require_finite_weights(
    parameters: Iterable[nn.Parameter], step: int, args: TrainingArguments
) -> None:
    """Raise TrainingError if a trained weight is NaN, infinite or as good as that."""
    trained = [p.detach() for p in parameters if p.requires_grad]
    norm = float(nn.utils.get_total_norm(trained))
    require_finite(norm, f"the norm of the trained weights after step {step}", args)


def require_finite(value: float, what: str, args: TrainingArguments) -> None:
    """Raise TrainingError that says what to change if the value is NaN or infinite."""
    if math.isfinite(value):
        return
    raise TrainingError(
        f"Training has diverged: {what} is {value}. Checkpoints are kept, if there are any; for a "
        "new run, choose",
        [
            f"a lower training.learning_rate (it is {args.learning_rate:g})",
            *(["a training.max_grad_norm such as 1 (it is 0)"] if not args.max_grad_norm else []),
            *(["training.dtype bf16 or fp32 (fp16 ends at 65504)"] if args.fp16 else []),
            "labels and texts of usual size, if a few rows are far off",
        ],
    )


def scaler_can_help(scaler: Any) -> bool:
    """Whether fp16's loss scaling skips steps that overflow, and can still scale lower.

    A loss scale below 1 says that the numbers overflow by themselves.
    """
    return scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1
