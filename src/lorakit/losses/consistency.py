"""A training loss of two passes, computed in one forward of a doubled batch.

The first half of the rows is the batch, the second half its view. Dropout draws for each row, so
the halves differ even if nothing is cut off. Evaluation uses the model's own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.losses.augmentations import View
from lorakit.losses.config import LossConfig
from lorakit.losses.registry import LOSSES
from lorakit.models.embeddings import embedding_module, second_half_edited
from lorakit.tasks.base import Task


@dataclass(frozen=True)
class ConsistencyLoss:
    """`(model, batch) -> loss`."""

    combine: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(z1, z2, labels) -> loss."""
    view: View
    ratio: float
    """The share that the view cuts off."""
    embeddings: nn.Module | None
    """The module whose output the view edits; None if it edits none."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        second, edit = self.view(inputs, self.ratio)
        doubled = {name: torch.cat([value, second[name]]) for name, value in inputs.items()}
        edited: Any = nullcontext()
        if edit is not None:
            if self.embeddings is None:
                raise ConfigError(
                    "The view of this loss edits the embeddings; register the loss with "
                    "Loss(..., edits_embeddings=True)."
                )
            edited = second_half_edited(model, self.embeddings, doubled["input_ids"], edit)
        with edited:
            logits = model(**doubled).logits
        z1, z2 = logits.to(torch.promote_types(logits.dtype, torch.float32)).chunk(2)
        return self.combine(z1, z2, batch["labels"])


def consistency_loss(
    config: LossConfig, model: Any, task: Task, tokenizer: Any
) -> ConsistencyLoss | None:
    """The consistency loss of a recipe; None for the plain loss.

    Raises ConfigError for a task, a model or a tokenizer that the loss cannot be used with.
    """
    loss = LOSSES[config.kind]
    if loss.combine is None:
        return None
    if problem := loss.problem_with(type(task), task.name):
        raise ConfigError(f"{problem}.")
    embeddings = embedding_module(model) if loss.edits_embeddings else None
    return ConsistencyLoss(
        partial(loss.combine, **config.weights),
        loss.view(tokenizer),
        config.ratio or 0.0,
        embeddings,
    )
