"""What a run says of itself at its end: that nothing was learned, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.recipe.schema import Recipe
from lorakit.tasks.base import Task
from lorakit.tasks.baseline import Baseline
from lorakit.training.preparation import Prepared


def baseline_of(run: Prepared) -> Baseline | None:
    """What a trivial answer scores on the test set; called before the first step.

    Where a task has none, as texts, it is the loss of the model that training begins with.
    """
    train, test = run.tables["train"], run.tables["test"]
    if not run.task.generates:
        return run.task.baseline(train, test)
    loss = run.trainer.examine(run.encoded["test"])[0]["loss"]
    return Baseline("model before training", "loss", loss, higher_is_better=False)


def remarks(
    recipe: Recipe,
    task: Task,
    metrics: Mapping[str, float],
    baseline: Baseline | None,
    predictions: Sequence[Any],
    test: Any,
) -> list[str]:
    """Sentences about predictions that no text is needed for; none where something was learned."""
    found = []
    if baseline is not None and not baseline.is_beaten_by(metrics[baseline.metric]):
        found.append(
            f"No better than the {baseline.answer}: {baseline.metric} is "
            f"{metrics[baseline.metric]:.4g}, and that has {baseline.value:.4g}. {_advice(recipe)}"
        )
    same = task.sameness(predictions, test)
    return [*found, same] if same is not None else found


def _advice(recipe: Recipe) -> str:
    training = recipe.training
    steps = (
        f"training.epochs, now {training.epochs:g}"
        if training.max_steps is None
        else f"training.max_steps, now {training.max_steps}"
    )
    return (
        f"Try more steps ({steps}), another training.learning_rate (now "
        f"{training.learning_rate:g}; a third of it or three times it), or more rows."
    )
