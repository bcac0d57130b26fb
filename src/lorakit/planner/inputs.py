"""A batch of fake inputs for a model: as many rows and tokens as were asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import PlanError
from lorakit.methods.registry import METHODS
from lorakit.models.dtypes import Dtype, autocast
from lorakit.models.positions import position_limit
from lorakit.planner.settings import StepSettings


def fake_inputs(model: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Token ids, their mask and labels, (batch, length); labels of a classifier are (batch,).

    The first row is a token shorter: with no padding at all transformers drops the mask, and most
    batches have some.
    """
    ids = torch.zeros(batch, length, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[0, length - 1 :] = 0 if length > 1 else 1
    return {"input_ids": ids, "attention_mask": mask, "labels": _labels(model, ids)}


def input_problems(model: Any, settings: StepSettings) -> list[str]:
    """Why a model cannot read the rows of this step.

    Raises ConfigError where the method leaves no room for any.
    """
    kind, length = type(model).__name__, settings.length
    if getattr(model.config.get_text_config(), "vocab_size", None) is None:
        return [f"{kind} reads no tokens; planning is for text models"]
    if "labels" not in inspect.signature(model.forward).parameters:
        return [f"{kind} takes no labels, so it has no loss; plan a model with a head for a task"]
    limit = position_limit(model)
    if limit is None:
        return []
    method, values = METHODS[settings.method], asdict(settings.method_config)
    method.require_room(values, limit)
    taken = method.extra_positions(values)
    if length <= limit - taken:
        return []
    of_them = f", of which {method.name} takes {taken}" if taken else ""
    most = limit - taken
    return [f"length is {length}, and {kind} has {limit} positions{of_them}; plan at most {most}"]


_LABEL_EACH_ROW = ("ForSequenceClassification", "ForNextSentencePrediction")
"""Ends of the names of transformers' classes with one output for a row."""


def _labels(model: Any, ids: Tensor) -> Tensor:
    """For each row of a model that has an output for each, else for each token."""
    names = (kind.__name__ for kind in type(model).__mro__)
    each_row = any(name.endswith(_LABEL_EACH_ROW) for name in names)
    return ids.new_zeros(len(ids)) if each_row else torch.zeros_like(ids)


def loss_in(dtype: Dtype) -> Callable[[Any, Mapping[str, Tensor]], Tensor]:
    """The model's own loss of a batch, computed in `dtype` as a training does.

    Raises PlanError for a model that computes none of labels alone.
    """

    def loss_of(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        with autocast(torch.device("cpu"), dtype):
            loss: Tensor | None = model(**batch).loss
        if loss is None:
            kind = type(model).__name__
            raise PlanError(f"{kind} computes no loss of token ids and labels alone.")
        return loss

    return loss_of
