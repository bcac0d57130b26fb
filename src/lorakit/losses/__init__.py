"""Losses: the model's own, or a consistency loss of two passes over a batch.

`LOSSES` says what each `loss.kind` of a recipe means, and `register` adds an entry to it.
"""

from lorakit.losses.config import LossConfig
from lorakit.losses.divergences import task_loss
from lorakit.losses.registry import LOSSES, Loss, register

__all__ = ["LOSSES", "Loss", "LossConfig", "register", "task_loss"]
