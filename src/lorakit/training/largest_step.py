"""The step of a run that takes most memory: its largest micro-batch, on tensors without memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorakit.models.dtypes import autocast, resolve_dtype
from lorakit.planner.checkpointing import checkpoint
from lorakit.planner.fakes import fake_batch
from lorakit.planner.planning import record_prepared
from lorakit.planner.recording import Recording
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.training_config import TrainingConfig
from lorakit.tasks.batching import LENGTH_COLUMNS, length
from lorakit.training.micro_batches import largest_batch
from lorakit.training.trainer import LoraTrainer, budget_of_rows


@dataclass(frozen=True)
class LargestStep:
    """A micro-batch with as many tokens as the budget and the data allow, recorded."""

    shape: tuple[int, ...]
    """Of the token ids: (rows, length), or (rows, choices, length)."""
    rows: int
    """Of the step, on one device; as many micro-batches as it takes."""
    recording: Recording


def record_largest_step(
    model: Any,
    mode: FakeTensorMode,
    trainer: LoraTrainer,
    training: TrainingConfig,
    lengths: Sequence[int],
    *,
    shares: int | None = None,
    **options: Any,
) -> LargestStep:
    """The run's largest step, with its own loss, uncompiled, of a prepared fake model in its mode.

    Of `training` count token budget, checkpointing, dtype and clipping; `lengths` are the
    `row_lengths`, which are the same for each `training`. Its rows are divided over
    `shares` devices, by default the run's processes; `options` are those of `record_step`.

    Raises PlanError as `record_prepared` does, and whatever the model has against fake tensors.
    """
    rows = math.ceil(trainer.total_batch / (shares or trainer.args.world_size))
    budget = budget_of_rows(training.token_budget, trainer.consistency)
    table: Any = trainer.train_dataset
    examples = [table[i] for i in largest_batch(lengths, rows, budget)]
    batch = trainer.data_collator(examples)
    dtype = resolve_dtype(training.dtype)

    def loss_of(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        with autocast(torch.device("cpu"), dtype):
            loss: Tensor = trainer.compute_loss(model, dict(batch))  # which may take labels out
        return loss

    with torch.random.fork_rng(devices=[]), mode:
        model.train()
        if training.gradient_checkpointing:
            checkpoint(model)
        recording = record_prepared(
            model,
            fake_batch(batch),
            loss_of,
            max_norm=training.max_grad_norm or None,
            accumulates=len(examples) < rows,
            **options,
        )
    return LargestStep(tuple(batch["input_ids"].shape), rows, recording)


def row_lengths(trainer: LoraTrainer) -> list[int]:
    """The tokens of each row that a run trains on."""
    table: Any = trainer.train_dataset
    columns = [name for name in LENGTH_COLUMNS if name in table.column_names]
    return [length(row) for row in table.select_columns(columns)]
