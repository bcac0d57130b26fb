"""From a recipe's settings to a LoraTrainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainingArguments

from lorakit.losses import LOSSES
from lorakit.losses.consistency import consistency_loss
from lorakit.models.dtypes import resolve_dtype
from lorakit.recipe.defaults import step_count
from lorakit.recipe.schema import Recipe, flat_settings
from lorakit.recipe.training_config import TrainingConfig
from lorakit.runs.directory import CHECKPOINTS
from lorakit.tasks.base import Task
from lorakit.tasks.padding import require_padding, settle_padding
from lorakit.tasks.pooling import require_eos
from lorakit.training.callbacks import HealthCheck, progress
from lorakit.training.compile_choice import Choice
from lorakit.training.parameter_groups import group_lines, group_parameters
from lorakit.training.trainer import LoraTrainer

_SCHEDULES = {"constant": "constant_with_warmup"}
_LOG_ENTRIES = 50


@dataclass
class RunArguments(TrainingArguments):
    """transformers' arguments, which tell trackers the recipe's settings too."""

    recipe: Mapping[str, Any] = field(default_factory=dict)
    places_model: bool = True
    """False: a model without memory, which stays where it is."""

    @property
    def place_model_on_device(self) -> bool:
        return self.places_model and bool(super().place_model_on_device)

    def to_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = super().to_dict()  # type: ignore[no-untyped-call]
        told |= told.pop("recipe")
        del told["places_model"]
        return told


def make_trainer(
    recipe: Recipe,
    model: Any,
    task: Task,
    tokenizer: Any,
    data: dict[str, Any],
    output: Path,
    log: Callable[[str], None] = print,
    callbacks: Sequence[Any] = (),
    places_model: bool = True,
) -> LoraTrainer:
    """A LoraTrainer with the recipe's settings, checks and checkpoints, and with these callbacks.

    Without `places_model` the model stays on the device that it is on.

    Raises ConfigError for a dtype that this machine cannot train in, a loss that cannot be used
    with the task or model, a tokenizer that cannot pad, texts that the head cannot read, and a
    pattern that matches nothing that trains.
    """
    training = recipe.training
    settle_padding(tokenizer, model)
    require_padding(tokenizer, task)
    for name, table in data.items():
        require_eos(model.config, task, tokenizer, table["input_ids"], name)
    callbacks = [*callbacks, progress(log)]
    if training.check == "on":
        callbacks.append(HealthCheck())
    if training.early_stopping:
        callbacks.append(EarlyStoppingCallback(training.early_stopping))
    steps = step_count(training, len(data["train"]))
    assert training.total_batch is not None
    args = RunArguments(
        output_dir=str(output / CHECKPOINTS),
        run_name=output.name,
        recipe=flat_settings(recipe, [recipe.method]),
        places_model=places_model,
        **_optimisation(training, steps),
        **_events(training, steps, task, "validation" in data),
        **_computation(training),
    )
    return LoraTrainer(
        model,
        task,
        tokenizer,
        training.total_batch,
        training.token_budget,
        consistency_loss(recipe.loss, model, task, tokenizer),
        args=args,
        optimizer_cls_and_kwargs=_optimizer(training, args, model, log),
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
        callbacks=callbacks,
        compile=_compile(recipe, log),
        log=log,
    )


def _compile(recipe: Recipe, log: Callable[[str], None]) -> Choice:
    """`training.compile`; auto is off where the loss edits embeddings by a hook (on is refused)."""
    edits = LOSSES[recipe.loss.kind].edits_embeddings
    if not edits or recipe.training.compile != "auto":
        return recipe.training.compile
    log(f"training.compile auto: uncompiled, as loss.kind {recipe.loss.kind} edits embeddings")
    return "off"


def _optimizer(
    training: TrainingConfig, args: TrainingArguments, model: Any, log: Callable[[str], None]
) -> tuple[Any, dict[str, Any]]:
    """transformers' optimizer for these arguments, on groups of lorakit's; logs unusual ones."""
    unusual = {
        name: getattr(training, name)
        for name in ("loraplus_lr_ratio", "learning_rate_pattern", "weight_decay_pattern")
    }
    groups = group_parameters(model, args.learning_rate, args.weight_decay, **unusual)
    if any(unusual.values()):
        for line in group_lines(groups):
            log(line)
    kind, settings = LoraTrainer.get_optimizer_cls_and_kwargs(args, model)
    return kind, {**settings, "params": groups}


def _optimisation(training: TrainingConfig, steps: int) -> dict[str, Any]:
    return {
        "learning_rate": training.learning_rate,
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "lr_scheduler_type": _SCHEDULES.get(training.schedule, training.schedule),
        "warmup_steps": _warmup(training, steps),
        "weight_decay": training.weight_decay,
        "adam_epsilon": training.adam_epsilon,
        "label_smoothing_factor": training.label_smoothing,
        "max_grad_norm": training.max_grad_norm,
        "seed": training.seed,
    }


def _warmup(training: TrainingConfig, steps: int) -> int:
    if training.warmup_steps is not None:
        return training.warmup_steps
    return math.ceil(training.warmup_ratio * steps)


def _events(
    training: TrainingConfig, steps: int, task: Task, has_validation: bool
) -> dict[str, Any]:
    """When to log, evaluate and save.

    Checkpoints fall on steps that log: the running mean of the loss is empty there, so the log of a
    resumed run is that of an uninterrupted one.
    """
    logging = max(1, steps // _LOG_ENTRIES)
    every = logging * math.ceil(steps / training.evaluations / logging)
    selects_best = bool(training.early_stopping)
    return {
        "logging_steps": logging,
        "save_strategy": "steps",
        "save_steps": every,
        "eval_strategy": "steps" if has_validation else "no",
        "eval_steps": every,
        "load_best_model_at_end": selects_best,
        "metric_for_best_model": task.best_metric if selects_best else None,
        "greater_is_better": task.higher_is_better if selects_best else None,
        "restore_callback_states_from_checkpoint": True,
        "report_to": [],  # lorakit's Trackers do
    }


def _computation(training: TrainingConfig) -> dict[str, Any]:
    dtype = resolve_dtype(training.dtype)
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": training.total_batch,
        "use_cpu": not torch.accelerator.is_available(),
        "bf16": dtype == "bf16",
        "fp16": dtype == "fp16",
        "full_determinism": training.deterministic,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }
    if training.gradient_checkpointing:
        known = TrainingArguments.__dataclass_fields__
        new, old = "activation_checkpointing", "gradient_checkpointing"  # renamed in 5.23
        arguments[new if new in known else old] = True
    return arguments
