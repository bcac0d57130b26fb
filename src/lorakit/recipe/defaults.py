"""The settings of a training that a recipe leaves open, derived from its data, base and method.

    total_batch     a power of two, so that an epoch has at least 16 steps; 8 to 32
    epochs          as many as it takes to 300 steps (100 where text is generated, which takes no
                    new head), and at most 20; with max_steps 1
    learning_rate   the method's number / width of the base; with LoRA+ it is between those of A
                    and B, by the same factor from both
    early_stopping  5 with a validation set, else 0

A tenth of these steps leaves a small data set unlearned: 450 rows are 15 steps of 32. What is
derived stands in the run's recipe like what was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lorakit.methods.registry import find
from lorakit.models import loading
from lorakit.recipe.data_config import DataConfig, split_size
from lorakit.recipe.schema import Recipe
from lorakit.recipe.training_config import TrainingConfig
from lorakit.tasks.registry import TASKS
from lorakit.text import plural

LEAST_BATCH, MOST_BATCH, EPOCH_STEPS = 8, 32, 16
MOST_EPOCHS = 20
PATIENCE = 5


def with_defaults(recipe: Recipe, examples: int, log: Callable[[str], None]) -> Recipe:
    """The recipe with a value for each of these settings; logs those that it had left open.

    `examples` train; the task is known. Raises FormatError if the base, whose width says the
    learning rate, is none.
    """
    training = recipe.training
    if training.total_batch is None:
        training = replace(training, total_batch=total_batch(examples))
    if training.epochs is None:
        training = replace(training, epochs=_epochs(recipe, training, examples))
    if training.learning_rate is None:
        training = replace(training, learning_rate=learning_rate(recipe))
    if training.early_stopping is None:
        has_validation = recipe.data.validation is not None
        training = replace(training, early_stopping=PATIENCE if has_validation else 0)
    if said := _said(recipe.training, training, examples):
        log(f"derived from {plural(examples, 'example')}: {said}")
    return replace(recipe, training=training)


def remaining_rows(data: DataConfig, test: str | float, rows: int) -> int:
    """How many of the rows of `data.train` are left when test and validation rows are split off."""
    for part in (test, data.validation):
        if isinstance(part, int | float):
            rows -= split_size(part, rows)
    return max(rows, 1)


def total_batch(examples: int) -> int:
    """
    >>> [total_batch(examples) for examples in (20, 270, 450, 10_000)]
    [8, 16, 16, 32]
    """
    most = max(1, examples // EPOCH_STEPS)
    return int(min(MOST_BATCH, max(LEAST_BATCH, 2 ** int(math.log2(most)))))


def learning_rate(recipe: Recipe) -> float:
    """Rounded to two digits: widths are no finer a measure than that."""
    config = loading.load_config(recipe.base, recipe.revision)
    middle = find(recipe.method).learning_rate(loading.width_of(config))
    return float(f"{middle / math.sqrt(recipe.training.loraplus_lr_ratio or 1):.2g}")


def step_count(training: TrainingConfig, examples: int) -> int:
    """The optimizer steps of a run, once its settings are all known."""
    assert training.epochs is not None
    assert training.total_batch is not None
    by_epochs = math.ceil(training.epochs * math.ceil(examples / training.total_batch))
    return training.max_steps or by_epochs


def _epochs(recipe: Recipe, training: TrainingConfig, examples: int) -> int:
    assert training.total_batch is not None
    least = TASKS[str(recipe.data.task)].task_class.least_steps
    wanted = 1 if training.max_steps is not None else least
    return min(MOST_EPOCHS, math.ceil(wanted / math.ceil(examples / training.total_batch)))


def _said(given: TrainingConfig, derived: TrainingConfig, examples: int) -> str:
    """The settings that were open, but for what has no use."""
    found: dict[str, Any] = {
        "total_batch": derived.total_batch,
        "epochs": f"{derived.epochs} ({plural(step_count(derived, examples), 'step')})",
        "learning_rate": derived.learning_rate,
        "early_stopping": derived.early_stopping,
    }
    idle = {"epochs": derived.max_steps is not None, "early_stopping": not derived.early_stopping}
    return ", ".join(
        f"{name} {value}"
        for name, value in found.items()
        if getattr(given, name) is None and not idle.get(name)
    )
