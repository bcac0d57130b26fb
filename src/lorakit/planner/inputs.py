"""A batch of fake inputs for a model: as many rows and tokens as were asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lorakit.models.dtypes import Dtype, autocast


def fake_inputs(model: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Token ids, their mask and labels, (batch, length); labels of a classifier are (batch,).

    The first row is a token shorter: with no padding at all transformers drops the mask, and most
    batches have some.
    """
    ids = torch.zeros(batch, length, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[0, length - 1 :] = 0 if length > 1 else 1
    return {"input_ids": ids, "attention_mask": mask, "labels": _labels(model, ids)}


def input_problems(model: Any, length: int) -> list[str]:
    """Why a model cannot read rows of this many tokens."""
    config, kind = model.config.get_text_config(), type(model).__name__
    if getattr(config, "vocab_size", None) is None:
        return [f"{kind} reads no tokens; planning is for text models"]
    limit = getattr(config, "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < length:
        return [f"length is {length}, and {kind} has {limit} positions; plan at most {limit}"]
    return []


def _labels(model: Any, ids: Tensor) -> Tensor:
    """For each token of a model that has an output for each, else for each row."""
    kind = type(model).__name__
    each_token = any(part in kind for part in ("LM", "ConditionalGeneration", "ForToken"))
    return torch.zeros_like(ids) if each_token else ids.new_zeros(len(ids))


def loss_in(dtype: Dtype) -> Callable[[Any, Mapping[str, Tensor]], Tensor]:
    """The model's own loss of a batch, computed in `dtype` as a training does."""

    def loss_of(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        with autocast(torch.device("cpu"), dtype):
            loss: Tensor = model(**batch).loss
        return loss

    return loss_of
