"""A finished run, or an adapter alone, becomes a model that answers.

A run directory says everything itself. An adapter alone brings what its files say; the base, the
task and the columns can be given, and have to be where nothing says them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from lorakit.checkpoint import AdapterBundle, read
from lorakit.errors import ConfigError, FormatError
from lorakit.injection.loading import load_bundle
from lorakit.tasks.base import Task
from lorakit.tasks.classification import Classification
from lorakit.training.base_model import UNLIMITED, length_limit, load_for_task
from lorakit.training.checkpoints import load_trained
from lorakit.training.preparation import prepare, split
from lorakit.training.recipe import Recipe, from_mapping
from lorakit.training.recipe_file import load_recipe
from lorakit.training.run_directory import ADAPTER, RECIPE
from lorakit.training.task_file import KINDS, load_task

TASK_OF = {"CAUSAL_LM": "generation", "SEQ_CLS": "classification"}


@dataclass(frozen=True)
class Ask:
    """What the caller says about an adapter; None is for the files to say."""

    base: str | None = None
    lora_alpha: float | None = None
    revision: str | None = None
    """Of the adapter, on the Hub."""
    check_base: bool = True
    task: str | None = None
    text: tuple[str, ...] | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits."""


@dataclass(frozen=True)
class Saved:
    """A model with what was trained for it, in evaluation mode, its tokenizer and its task."""

    source: str
    base: str
    method: str
    model: Any
    tokenizer: Any
    task: Task
    recipe: Recipe | None


def open_saved(source: str, ask: Ask | None = None, needed: str | None = None) -> Saved:
    """Open a run directory or an adapter (directory, file or hub id) for inference.

    `needed` is a task that is meant anyway, where nothing else says one. Raises ConfigError that
    lists what is missing, FormatError for damaged files, MismatchError if adapter and base do not
    fit.
    """
    ask = ask or Ask()
    if (Path(source) / RECIPE).is_file():
        return _open_run(Path(source), ask)
    bundle = read(source, ask.lora_alpha, ask.revision)
    base = ask.base or bundle.base_model
    stored = load_task(Path(source)) if Path(source).is_dir() else None
    named = ask.task or (stored.name if stored else TASK_OF.get(bundle.task_type or "", needed))
    _require(source, base, named)
    assert base is not None
    assert named is not None
    task = _asked(stored, ask, source) or _bare_task(named, ask, bundle, base)
    model = _load_adapted(base, task, bundle, source, ask)
    return _saved(source, base, "lora", model, task, Path(source), None)


def run_rows(saved: Saved) -> Any:
    """The rows that a run set apart for testing.

    Raises ConfigError if `saved` is an adapter alone.
    """
    if saved.recipe is None:
        raise ConfigError(f"{saved.source} is an adapter without test rows; pass --data FILE.")
    return split(saved.recipe.data)["test"]


def _open_run(directory: Path, ask: Ask) -> Saved:
    recipe = from_mapping(load_recipe(directory / RECIPE))
    adapter = directory / ADAPTER
    if not adapter.is_dir():
        raise FormatError(
            f"{directory} holds a run that is not finished; lorakit train "
            f"{directory / RECIPE} continues it."
        )
    base = ask.base or recipe.base
    recipe = replace(recipe, base=base)
    task = _asked(load_task(adapter), ask, str(directory))
    task = task or prepare(recipe, split(recipe.data)["train"])[1]
    if recipe.method != "lora":
        model, _ = load_for_task(base, task.auto_class, task.head(), recipe.revision)
        model.requires_grad_(False)
        load_trained(model, adapter)
    else:
        bundle = read(adapter, ask.lora_alpha)
        model = _load_adapted(base, task, bundle, str(adapter), ask, recipe.revision)
    return _saved(str(directory), base, recipe.method, model, task, adapter, recipe)


def _load_adapted(
    base: str,
    task: Task,
    bundle: AdapterBundle,
    origin: str,
    ask: Ask,
    revision: str | None = None,
) -> Any:
    model, _ = load_for_task(base, task.auto_class, task.head(), revision)
    load_bundle(model, bundle, origin, ask.check_base)
    return model


def _saved(
    source: str, base: str, method: str, model: Any, task: Task, files: Path, recipe: Recipe | None
) -> Saved:
    own = (files / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(files if own else base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return Saved(source, base, method, model, tokenizer, task, recipe)


def _asked(task: Task | None, ask: Ask, source: str) -> Task | None:
    """The stored task with the columns that were asked for."""
    if task is None:
        return None
    if ask.task is not None and ask.task != task.name:
        raise ConfigError(f"{source} was trained for {task.name}, not for {ask.task}.")
    return replace(task, text=ask.text or task.text, label=ask.label or task.label)


def _bare_task(name: str, ask: Ask, bundle: AdapterBundle, base: str) -> Task:
    """The task of an adapter that brings no file about it."""
    limit = length_limit(base) or UNLIMITED
    text, label = ask.text or (), ask.label
    if name != "classification":
        return KINDS[name](text, label, limit)
    count = _head_height(bundle)
    labels = ask.labels or tuple(map(str, range(count)))
    if len(labels) != count:
        raise ConfigError(f"The adapter's head has {count} labels, and {len(labels)} are named.")
    return Classification(text, label, limit, labels)


def _head_height(bundle: AdapterBundle) -> int:
    """Number of classes: the height of the last matrix that was trained in full."""
    heights = [t.shape[0] for n, t in bundle.trained.items() if t.ndim == 2 and "dense" not in n]
    if not heights:
        raise ConfigError("The adapter brings no classification head, so it has no labels to say.")
    return heights[-1]


def _require(source: str, base: str | None, task: str | None) -> None:
    problems: list[str] = []
    if base is None:
        problems.append("the base model is not said; pass --base MODEL")
    if task is None:
        problems.append(f"the task is not said; pass --task, one of {', '.join(KINDS)}")
    elif task not in KINDS:
        problems.append(f"task is {task!r}; it must be one of {', '.join(KINDS)}")
    if problems:
        raise ConfigError(f"{source} cannot be used as it is:", problems)
