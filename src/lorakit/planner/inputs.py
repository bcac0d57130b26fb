"""A batch of fake inputs for a model: as many rows and tokens as were asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import PlanError
from lorakit.methods.registry import METHODS
from lorakit.models.dtypes import Dtype, autocast
from lorakit.models.positions import position_limit
from lorakit.planner.settings import StepSettings


def fake_inputs(model: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Token ids, their mask and labels, (batch, length); labels of a row classifier are (batch,).

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
    if not _takes_labels(model.forward):
        return [
            f"{kind} takes no labels, and planning computes a loss of these alone; plan a model "
            "whose forward takes labels"
        ]
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


def _takes_labels(forward: Callable[..., Any]) -> bool:
    """By name, or as one of any keywords, which only transformers' own forwards are known to drop.

    A forward of `**kwargs` in a user's class may hand them on to one that takes labels.
    """
    parameters = inspect.signature(forward).parameters.values()
    hands_on = not _is_transformers(forward.__module__)
    return any(p.name == "labels" or (hands_on and p.kind is p.VAR_KEYWORD) for p in parameters)


def _is_transformers(module: str) -> bool:
    return module.partition(".")[0] == "transformers"


_ROW_HEADS = ("ForSequenceClassification", "ForNextSentencePrediction")
"""Ends of the names of transformers' classes with one output for a row."""
_TOKEN_HEADS = ("LM", "ConditionalGeneration", "ForToken")
"""Parts of the names that others give to classes with one for a token."""


def _labels(model: Any, ids: Tensor) -> Tensor:
    """For each row of a model that has an output for each, else for each token.

    That is known of a model with a head of transformers, and else assumed by its name.
    """
    kinds = [kind for kind in type(model).__mro__ if issubclass(kind, nn.Module)]
    known = [k for k in kinds if _is_transformers(k.__module__) and _takes_labels(k.forward)]
    if known:
        each_row = any(kind.__name__.endswith(_ROW_HEADS) for kind in known)
    else:
        each_row = not any(part in type(model).__name__ for part in _TOKEN_HEADS)
    return ids.new_zeros(len(ids)) if each_row else torch.zeros_like(ids)


def loss_in(dtype: Dtype) -> Callable[[Any, Mapping[str, Tensor]], Tensor]:
    """The model's own loss of a batch, computed in `dtype` as a training does.

    Raises PlanError for a model that computes none of labels alone, or none of these.
    """

    def loss_of(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        kind, shape = type(model).__name__, tuple(batch["labels"].shape)
        with autocast(torch.device("cpu"), dtype):
            try:
                loss: Tensor | None = getattr(model(**batch), "loss", None)
            except ValueError as error:  # as torch's losses say of other shapes
                raise PlanError(f"{kind} computes no loss of labels {shape}: {error}") from error
        if loss is None:
            raise PlanError(f"{kind} computes no loss of token ids and labels alone.")
        return loss

    return loss_of
