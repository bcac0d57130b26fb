"""A finished run, or an adapter alone, becomes a model that answers.

A run directory says everything itself. An adapter alone brings what its files say; the base, the
task and the columns can be given, and have to be where nothing says them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.releases import release_of
from lorakit.errors import ConfigError, FormatError
from lorakit.methods import load
from lorakit.models.heads import head_height
from lorakit.models.loading import load_for_task
from lorakit.recipe.data import prepare, split, tested, text_limit
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import ADAPTER, RECIPE
from lorakit.tasks.base import BareAdapter, Task
from lorakit.tasks.padding import with_pad_token
from lorakit.tasks.registry import TASKS, task_of_type, task_problem, task_spec
from lorakit.tasks.spec import Columns, TaskSpec
from lorakit.tasks.task_file import load_task


@dataclass(frozen=True)
class LoadOptions:
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
class Session:
    """A model with what was trained for it, in evaluation mode, its tokenizer and its task."""

    source: str
    base: str
    method: str
    model: Any
    tokenizer: Any
    task: Task
    recipe: Recipe | None
    spec: TaskSpec
    """What the task is called, which says more than `task`: mnli and rte are classification."""


def open_session(source: str, ask: LoadOptions | None = None, needed: str | None = None) -> Session:
    """Open a run directory or an adapter (directory, file or hub id) for inference.

    `needed` is a task that is meant anyway, where nothing else says one. Raises ConfigError that
    lists what is missing, FormatError for damaged files, MismatchError if adapter and base do not
    fit.
    """
    ask = ask or LoadOptions()
    if (Path(source) / RECIPE).is_file():
        return _open_run(Path(source), ask)
    bundle = read(source, ask.lora_alpha, ask.revision)
    base = ask.base or bundle.base_model
    stored = load_task(Path(source)) if Path(source).is_dir() else None
    named = ask.task or _own_task(source, stored, bundle) or needed
    _require(source, base, named)
    assert base is not None
    assert named is not None
    spec = task_spec(named)
    task = _adopted(stored, ask, source) if stored else _bare_task(spec, ask, bundle, base)
    model = _load_adapted(base, task, bundle, source, ask)
    return _saved(source, base, bundle.method, model, task, Path(source), None, spec)


def held_out_tables(saved: Session, data: str | None) -> dict[str, Any]:
    """What is evaluated on: `data`, else a run's test rows, else those that its task has.

    Raises ConfigError for an adapter alone whose task has none.
    """
    if data is None and saved.recipe is not None:
        return tested(split(saved.recipe.data))
    source = data or saved.spec.hub
    if source is None:
        raise ConfigError(f"{saved.source} is an adapter without test rows; pass --data FILE.")
    return saved.spec.read(source, "test")


def _open_run(directory: Path, ask: LoadOptions) -> Session:
    recipe = from_mapping(load_recipe(directory / RECIPE))
    adapter = directory / ADAPTER
    if not adapter.is_dir():
        raise FormatError(
            f"{directory} holds a run that is not finished; lorakit train "
            f"{directory / RECIPE} continues it."
        )
    base = ask.base or recipe.base
    recipe = replace(recipe, base=base)
    stored = load_task(adapter) or prepare(recipe, split(recipe.data)["train"])[1]
    task = _adopted(stored, ask, str(directory))
    bundle = read(adapter, ask.lora_alpha)
    model = _load_adapted(base, task, bundle, str(adapter), ask, recipe.revision)
    spec = task_spec(ask.task or recipe.data.task or task.name)
    return _saved(str(directory), base, recipe.method, model, task, adapter, recipe, spec)


def _load_adapted(
    base: str,
    task: Task,
    bundle: AdapterBundle,
    origin: str,
    ask: LoadOptions,
    revision: str | None = None,
) -> Any:
    brought = set(bundle.trained)
    model, _ = load_for_task(base, task.auto_class, task.head(), revision, brought)
    load(model, bundle, origin, ask.check_base)
    return model


def _saved(
    source: str,
    base: str,
    method: str,
    model: Any,
    task: Task,
    files: Path,
    recipe: Recipe | None,
    spec: TaskSpec,
) -> Session:
    own = (files / "tokenizer_config.json").is_file()
    tokenizer = with_pad_token(AutoTokenizer.from_pretrained(files if own else base))
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return Session(source, base, method, model, tokenizer, task, recipe, spec)


def _own_task(source: str, stored: Task | None, bundle: AdapterBundle) -> str | None:
    """What the file beside an adapter says, or the catalogue, or the kind of its base."""
    if stored is not None:
        return stored.name
    release = release_of(source)
    return release.task if release is not None else task_of_type(bundle.task_type)


def _adopted(stored: Task, ask: LoadOptions, source: str) -> Task:
    """The stored task with the columns that were asked for, or as the task that was asked for."""
    spec = task_spec(ask.task or stored.name)
    return spec.adopt(stored, Columns(ask.task, ask.text, ask.label), ask.labels, source)


def _bare_task(spec: TaskSpec, ask: LoadOptions, bundle: AdapterBundle, base: str) -> Task:
    """The task of an adapter that brings no file about it."""
    names = AutoConfig.from_pretrained(base).id2label
    adapter = BareAdapter(
        ask.text or (),
        ask.label,
        text_limit(AutoTokenizer.from_pretrained(base), base),
        ask.labels,
        head_height(bundle),
        tuple(str(names[number]) for number in sorted(names)),
    )
    return spec.for_adapter(adapter)


def _require(source: str, base: str | None, task: str | None) -> None:
    problems: list[str] = []
    if base is None:
        problems.append("the base model is not said; pass --base MODEL")
    if task is None:
        problems.append(f"the task is not said; pass --task, one of {', '.join(TASKS)}")
    elif problem := task_problem(task):
        problems.append(problem)
    if problems:
        raise ConfigError(f"{source} cannot be used as it is:", problems)
