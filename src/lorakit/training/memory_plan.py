"""The memory of a run's steps, predicted before the first; and what to do if it is too much.

Planned is the largest micro-batch that the token budget and the data allow, with the run's own
loss, by a step on tensors without memory (`lorakit.planner`). A run goes on without a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import PlanError
from lorakit.models.dtypes import autocast, resolve_dtype
from lorakit.planner.checkpointing import checkpoint
from lorakit.planner.fakes import fake_batch, fake_copy
from lorakit.planner.planning import plan_prepared
from lorakit.planner.recording import BASE, TRAINED
from lorakit.planner.timeline import Timeline
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.data import Log
from lorakit.recipe.training_config import TrainingConfig
from lorakit.tasks.batching import length
from lorakit.text import size_text
from lorakit.training.memory import available_memory
from lorakit.training.micro_batches import largest_batch
from lorakit.training.preparation import Prepared
from lorakit.training.trainer import LoraTrainer

_SECONDS = 10.0
_LENGTHS = ("input_ids", "decoder_attention_mask")


def planned_peak(run: Prepared, log: Log) -> int | None:
    """The bytes of tensors at the peak of a step; logs them, and that they are not there.

    None, and the reason in the log, where they cannot be predicted; of a run that computes on a
    backbone of several runs nothing is said.
    """
    if run.trainer.shared is not None:
        return None
    examples = _largest(run.trainer)
    batch = run.trainer.data_collator(examples)
    try:
        memory = _plan(run, batch, accumulates=len(examples) < _rows(run.trainer))
    except PlanError as error:
        log("memory: not predicted. " + " ".join([error.headline, *error.problems[-1:]]))
        return None
    except Exception as error:  # a model's forward raises whatever it has against fake tensors
        log(f"memory: not predicted, as a step cannot run without values: {error}")
        return None
    shape = " x ".join(map(str, batch["input_ids"].shape))
    peak: int = memory.peak.total
    log(f"memory: {size_text(peak)} predicted at the peak of a step, for {shape} tokens")
    if warning := too_little(memory, available_memory(), run.recipe.training, len(examples)):
        log(warning)
    return peak


def _rows(trainer: LoraTrainer) -> int:
    """Of a step, in this process."""
    processes: int = trainer.args.world_size
    return math.ceil(trainer.total_batch / processes)


def _largest(trainer: LoraTrainer) -> list[dict[str, Any]]:
    table: Any = trainer.train_dataset
    columns = [name for name in _LENGTHS if name in table.column_names]
    lengths = [length(row) for row in table.select_columns(columns)]
    return [table[i] for i in largest_batch(lengths, _rows(trainer), trainer.token_budget)]


def _plan(run: Prepared, batch: Mapping[str, Tensor], accumulates: bool) -> Timeline:
    training, mode = run.recipe.training, FakeTensorMode()
    dtype = resolve_dtype(training.dtype)

    def loss_of(model: Any, batch: Any) -> Tensor:
        with autocast(torch.device("cpu"), dtype):
            loss: Tensor = run.trainer.compute_loss(model, batch)
        return loss

    model = fake_copy(run.model, mode)
    with torch.random.fork_rng(devices=[]), mode:
        model.train()
        if training.gradient_checkpointing:
            checkpoint(model)
        return plan_prepared(
            model,
            fake_batch(batch),
            loss_of,
            max_norm=training.max_grad_norm or None,
            accumulates=accumulates,
            seconds=_SECONDS,
        )


def too_little(memory: Timeline, available: int, training: TrainingConfig, rows: int) -> str | None:
    """What to change where a step needs more than is available; the weights are there already."""
    weights = memory.peak.bytes_by[BASE] + memory.peak.bytes_by[TRAINED]
    needed = memory.peak.total - weights
    if needed <= available:
        return None
    ways = {
        f"lower training.token_budget (now {training.token_budget})": rows > 1,
        "shorten rows by data.max_length": rows == 1,
        "set training.gradient_checkpointing to true": not training.gradient_checkpointing,
        "set training.dtype to bf16": resolve_dtype(training.dtype) == "fp32",
    }
    advice = ", or ".join(way for way, helps in ways.items() if helps)
    return (
        f"memory: a step is predicted to need {size_text(needed)} beside the weights, and "
        f"{size_text(available)} are available; {advice}"
    )
