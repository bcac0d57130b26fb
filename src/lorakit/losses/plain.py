"""The plain loss of a task, from logits: what transformers' models compute beside labels.

For a batch whose rows have adapters of their own, and with them tasks of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from lorakit.tasks.base import Learned, Task
from lorakit.tasks.ends import IGNORED
from lorakit.tasks.generation import CausalTask


def plain_loss(task: Task, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of these logits, in float32; tokens whose label is IGNORED do not count.

    Labels are as the task collates them: (B), (B, L) of several labels, or (B, T) of tokens, where
    logits of further tokens may follow.
    """
    if isinstance(task, CausalTask):
        labels = task.text_model.targets(labels)
    return _LOSSES[task.learns](logits.float(), labels.to(logits.device))


def _of_classes(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, z: (..., C), y: (...)."""
    if y.ndim > 1:
        z = z[:, : y.shape[1]]
    return F.cross_entropy(z.flatten(0, -2), y.flatten(), ignore_index=IGNORED)


def _of_numbers(z: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(z.squeeze(-1), y.float())


def _of_sets(z: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(z, y.float())


_LOSSES: dict[Learned, Callable[[Tensor, Tensor], Tensor]] = {
    "a class": _of_classes,
    "a number": _of_numbers,
    "a set of labels": _of_sets,
}
