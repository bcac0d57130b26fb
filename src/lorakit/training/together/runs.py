"""From several recipes over one base to a run directory for each, trained at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from accelerate import PartialState

from lorakit.errors import ConfigError
from lorakit.recipe.data import Log
from lorakit.recipe.schema import Recipe
from lorakit.runs.directory import RunResult
from lorakit.training.callbacks import ProgressBar, ProgressLines
from lorakit.training.preparation import Prepared
from lorakit.training.run import determinism, train
from lorakit.training.together.backbone import OnShared, SharedBackbone
from lorakit.training.together.turns import Ask, take_turns


def train_together(recipes: Mapping[str, Recipe], log: Log = print) -> dict[str, RunResult]:
    """Train by each of `recipes`, all in one run over their one base; the results, by their names.

    Each becomes a run directory of its own, as if it had been trained alone: every step takes the
    batch that it would have been given, and all of these are one mixed batch. A run that is done
    drops out. Interrupted runs are resumed, each from its own newest checkpoint, and finished ones
    give their results. `log` gets each line, with the name of its run.

    Raises ConfigError that lists what the recipes cannot share, and whatever `train` raises before
    training; TrainingError that lists the runs that failed in it, once the others are finished.
    """
    require_shareable(recipes)
    first = next(iter(recipes.values())).training
    shared = SharedBackbone(max(recipe.training.token_budget for recipe in recipes.values()))
    works = {
        name: partial(_work, name, recipe, shared, partial(_say, log, name))
        for name, recipe in recipes.items()
    }
    with determinism(first.deterministic):
        return take_turns(works, shared.answer)


def _work(name: str, recipe: Recipe, shared: SharedBackbone, log: Log, ask: Ask) -> RunResult:
    return train(recipe, log, prepared=partial(_join, name, shared, log, ask))


def _join(name: str, shared: SharedBackbone, log: Log, ask: Ask, run: Prepared) -> None:
    """Let a run compute with the shared backbone."""
    trainer = run.trainer
    own = shared.join(name, run.model, run.recipe)
    shared.autocast = trainer.accelerator.autocast
    trainer.shared = OnShared(run.model, trainer.loss_of, own, ask)
    trainer.remove_callback(ProgressBar)  # several would write over each other
    if not any(isinstance(c, ProgressLines) for c in trainer.callback_handler.callbacks):
        trainer.add_callback(ProgressLines(log))


def _say(log: Log, name: str, text: str) -> None:
    log("\n".join(f"{name}: {line}" for line in text.splitlines()))


_SHARED: Mapping[str, Callable[[Recipe], Any]] = {
    "base": lambda recipe: recipe.base,
    "revision": lambda recipe: recipe.revision,
    "training.dtype": lambda recipe: recipe.training.dtype,
    "training.base_dropout": lambda recipe: recipe.training.base_dropout,
    "training.gradient_checkpointing": lambda recipe: recipe.training.gradient_checkpointing,
    "training.deterministic": lambda recipe: recipe.training.deterministic,
}
"""Settings of the base's own forward and backward, which are the same for all."""
_FIXED: Mapping[str, tuple[Callable[[Recipe], Any], Any, str]] = {
    "method": (lambda recipe: recipe.method, "lora", "rows have LoRA adapters of their own"),
    "loss.kind": (lambda recipe: recipe.loss.kind, "plain", "others run the base twice"),
    "training.compile": (
        lambda recipe: recipe.training.compile,
        "off",
        "a mixed batch is not compiled",
    ),
    "training.report_to": (
        lambda recipe: list(recipe.training.report_to),
        [],
        "trackers follow one run in a process",
    ),
}
"""Settings that have to be this, and why."""


def require_shareable(recipes: Mapping[str, Recipe]) -> None:
    """Raise ConfigError that lists what these recipes cannot share."""
    problems = [problem for name, recipe in recipes.items() for problem in _problems(name, recipe)]
    for setting, value in _SHARED.items():
        found = {name: value(recipe) for name, recipe in recipes.items()}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{name}: {each!r}" for name, each in found.items())
            problems.append(f"{setting} has to be one for all; it is {listed}")
    outputs = Counter(recipe.output for recipe in recipes.values())
    problems += [f"several write to {output}" for output, n in outputs.items() if n > 1]
    if PartialState().num_processes > 1:
        problems.append("several processes each train on a share of one run; start one process")
    if not recipes:
        problems.append("there are none; name at least one")
    if problems:
        raise ConfigError("These adapters cannot be trained in one run:", problems)


def sharing_key(recipe: Recipe) -> object | None:
    """Equal for recipes that can share a run; None for one that cannot share any."""
    if _problems("", recipe):
        return None
    return tuple(value(recipe) for value in _SHARED.values())


def _problems(name: str, recipe: Recipe) -> list[str]:
    return [
        f"{name}: {setting} is {found!r}; it has to be {wanted!r}, as {why}"
        for setting, (value, wanted, why) in _FIXED.items()
        if (found := value(recipe)) != wanted
    ]
