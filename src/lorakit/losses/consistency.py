"""A training loss of two passes, computed in one forward of a doubled batch.

The first half of the rows is the batch, the second half its view. Dropout draws for each row, so
the halves differ where nothing was taken away, too. Evaluation never comes here.
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
    """Of the logits of both passes and the labels."""
    view: View
    ratio: float
    """What the view takes away."""
    embeddings: nn.Module | None
    """Whose output the view changes, if it does."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        second, edit = self.view(inputs, self.ratio)
        doubled = {name: torch.cat([value, second[name]]) for name, value in inputs.items()}
        edited: Any = nullcontext()
        if edit is not None:
            if self.embeddings is None:
                raise ConfigError("This loss edits embeddings: register it with edits_embeddings.")
            edited = second_half_edited(model, self.embeddings, doubled["input_ids"], edit)
        with edited:
            logits = model(**doubled).logits
        z1, z2 = logits.to(torch.promote_types(logits.dtype, torch.float32)).chunk(2)
        return self.combine(z1, z2, batch["labels"])


def consistency_loss(
    config: LossConfig, model: Any, task: Task, tokenizer: Any
) -> ConsistencyLoss | None:
    """The loss that a recipe asks for; None for the model's own.

    Raises ConfigError for a task, a model or a tokenizer for which the loss means nothing.
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
