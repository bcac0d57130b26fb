"""A training loss of two passes, computed in one forward of a doubled batch.

The first half of the rows is the batch, the second half its view. Dropout draws for each row, so
the halves differ where nothing was taken away, too. Evaluation never comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.losses import augmentations
from lorakit.losses.augmentations import View
from lorakit.losses.config import LossConfig
from lorakit.losses.divergences import COMBINE
from lorakit.models.embeddings import embedding_module, second_half_edited
from lorakit.tasks.base import Task

_VIEWS: Mapping[str, View] = {
    "rdrop": augmentations.same,
    "cutoff_token": augmentations.without_tokens,
    "cutoff_feature": augmentations.without_features,
    "cutoff_span": augmentations.without_span,
    "loralib_rdrop": augmentations.same,
}
_SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"


@dataclass(frozen=True)
class ConsistencyLoss:
    """`(model, batch) -> loss`."""

    config: LossConfig
    view: View
    embeddings: nn.Module | None
    """Whose output the view changes, if it does."""

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        second, edit = self.view(inputs, self.config.ratio or 0.0)
        doubled = {name: torch.cat([value, second[name]]) for name, value in inputs.items()}
        edited: Any = nullcontext()
        if edit is not None and self.embeddings is not None:
            edited = second_half_edited(model, self.embeddings, doubled["input_ids"], edit)
        with edited:
            logits = model(**doubled).logits
        z1, z2 = logits.to(torch.promote_types(logits.dtype, torch.float32)).chunk(2)
        return COMBINE[self.config.kind](z1, z2, batch["labels"], self.config)


def consistency_loss(
    config: LossConfig, model: Any, task: Task, tokenizer: Any
) -> ConsistencyLoss | None:
    """The loss that a recipe asks for; None for the model's own.

    Raises ConfigError for a task, a model or a tokenizer for which the loss means nothing.
    """
    if config.kind == "plain":
        return None
    if task.auto_class != _SEQUENCE_CLASSIFICATION:
        raise ConfigError(
            f"loss.kind {config.kind} is for one row of logits an example, and the task "
            f"{task.name} has none; use plain."
        )
    if config.kind == "loralib_cutoff":
        return ConsistencyLoss(config, _unknown_tokens(tokenizer), None)
    cuts = config.kind.startswith("cutoff")
    return ConsistencyLoss(config, _VIEWS[config.kind], embedding_module(model) if cuts else None)


def _unknown_tokens(tokenizer: Any) -> View:
    names = ("cls", "sep", "pad", "bos", "eos")
    special = [getattr(tokenizer, f"{name}_token_id") for name in names]
    unknown = tokenizer.unk_token_id
    if unknown is None:
        raise ConfigError(
            "loss.kind loralib_cutoff puts the unknown token in place of others, and this "
            "tokenizer has none; use cutoff_token."
        )
    kept = sorted({token for token in special if token is not None})
    return partial(augmentations.with_unknown_tokens, unknown=unknown, special=kept)
