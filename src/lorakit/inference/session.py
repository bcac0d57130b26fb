"""A finished run, or an adapter alone, is opened for inference.

A run directory holds its recipe, so it needs nothing else. An adapter alone may lack the base, the
task or the columns; then they have to be given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorakit.checkpoint import AdapterBundle, read
from lorakit.checkpoint.releases import release_of
from lorakit.errors import ConfigError
from lorakit.inference.beside import (
    adapter_directory,
    load_own_tokenizer,
    settle_tokens,
    stored_task,
)
from lorakit.methods import find, load
from lorakit.models.dtypes import Dtype, compute_in, inference_dtype
from lorakit.models.heads import head_height, output_layer
from lorakit.models.loading import load_config, load_for_task, load_tokenizer
from lorakit.models.vocabulary import fit_vocabulary
from lorakit.recipe.data import prepare, split, tested, text_limit
from lorakit.recipe.schema import Recipe
from lorakit.runs.finished import FinishedRun, finished_run
from lorakit.tasks.base import BareAdapter, Task
from lorakit.tasks.batching import TOKENS
from lorakit.tasks.padding import require_padding
from lorakit.tasks.registry import TASKS, task_of_type, task_problem, task_spec
from lorakit.tasks.spec import Columns, TaskSpec
from lorakit.tasks.task_file import load_task


@dataclass(frozen=True)
class LoadOptions:
    """What the caller knows about an adapter; None: as in its files."""

    base: str | None = None
    """Directory or hub id of the base model."""
    lora_alpha: float | None = None
    """For files that do not store it (loralib's)."""
    revision: str | None = None
    """Branch, tag or commit of the adapter on the Hub."""
    check_base: bool = True
    """Raise MismatchError for a base whose weights are not those of the training."""
    task: str | None = None
    """A name in `lorakit.tasks.TASKS`."""
    text: tuple[str, ...] | None = None
    """The columns to read."""
    label: str | None = None
    """The column of labels."""
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits."""
    thresholds: tuple[float, ...] | None = None
    """Probabilities above which labels are predicted, where several labels may be right."""


@dataclass(frozen=True)
class Session:
    """An adapted `model` in evaluation mode, its `tokenizer` and its task."""

    source: str
    """The run or adapter that was opened."""
    base: str
    """The base model that it was loaded onto."""
    method: str
    """What trained it: a name in `lorakit.methods.METHODS`."""
    model: Any
    tokenizer: Any
    task: Task
    """Columns and labels: what rows are read as, and what outputs mean."""
    recipe: Recipe | None
    """The recipe of a run; None for an adapter alone."""
    spec: TaskSpec
    """The entry of the task in `TASKS`: mnli and rte are both a classification `task`."""
    dtype: Dtype = "fp32"
    """A run's model computes in the dtype of its training, so its metrics stay what they were."""

    @property
    def token_budget(self) -> int:
        """Tokens of a batch at most: a run's rows form the same batches as in its training."""
        return TOKENS if self.recipe is None else self.recipe.training.token_budget


def open_session(
    source: str, options: LoadOptions | None = None, default_task: str | None = None
) -> Session:
    """Open `source`, a run directory or an adapter (directory, file or hub id), for inference.

    `options` override what stands beside it. `default_task` is the task of an adapter that names
    none. Raises ConfigError that lists what is missing, FormatError for damaged files,
    MismatchError if the adapter does not fit its base.
    """
    options = options or LoadOptions()
    if run := finished_run(source, options.revision):
        return _open_run(source, run, options)
    bundle = read(source, options.lora_alpha, options.revision)
    base = options.base or bundle.base_model
    directory = adapter_directory(source, options.revision)
    stored = stored_task(directory)
    named = options.task or _own_task(source, stored, bundle) or default_task
    _require(source, base, named)
    assert base is not None
    assert named is not None
    spec = task_spec(named)
    task = _adopted(stored, options, source) if stored else _bare_task(spec, options, bundle, base)
    task = _deciding(task, options)
    own = load_own_tokenizer(directory)
    model = _load_adapted(base, task, bundle, own, source, options)
    return _session(source, base, bundle.method, model, own, task, directory, None, spec)


def evaluation_tables(session: Session, data: str | None) -> dict[str, Any]:
    """The tables to evaluate on: `data`, else a run's test rows, else the task's own test set.

    Raises ConfigError for an adapter alone whose task has no test set.
    """
    if data is None and session.recipe is not None:
        return tested(split(session.recipe.data))
    source = data or session.spec.hub
    if source is None:
        raise ConfigError(
            f"{session.source} is an adapter, and its task {session.spec.name} has no test set of "
            "its own; pass --data FILE."
        )
    return session.spec.read(source, "test")


def _open_run(directory: str, run: FinishedRun, options: LoadOptions) -> Session:
    adapter, base = run.adapter, options.base or run.recipe.base
    recipe = replace(run.recipe, base=base)
    bundle = read(adapter, options.lora_alpha)
    stored = load_task(adapter) or _task_again(recipe, bundle)
    task = _deciding(_adopted(stored, options, directory), options)
    own = load_own_tokenizer(adapter)
    model = _load_adapted(base, task, bundle, own, str(adapter), options, recipe.revision)
    dtype = inference_dtype(recipe.training.dtype)
    compute_in(model, dtype)
    spec = task_spec(options.task or recipe.data.task or task.name)
    session = _session(directory, base, recipe.method, model, own, task, adapter, recipe, spec)
    return replace(session, dtype=dtype)


def _task_again(recipe: Recipe, bundle: AdapterBundle) -> Task:
    """The task that a run was finished with, from its data."""
    _, task = prepare(recipe, split(recipe.data)["train"])
    return task.with_folded_units(output_layer(bundle.trained))


def _load_adapted(
    base: str,
    task: Task,
    bundle: AdapterBundle,
    tokenizer: Any,
    origin: str,
    options: LoadOptions,
    revision: str | None = None,
) -> Any:
    provided = set(bundle.trained)
    model, _ = load_for_task(base, task.auto_class, task.head(), revision, provided)
    fit_vocabulary(model, bundle, tokenizer)
    load(model, bundle, origin, options.check_base)
    return model


def _session(
    source: str,
    base: str,
    method: str,
    model: Any,
    tokenizer: Any,
    task: Task,
    directory: Path | None,
    recipe: Recipe | None,
    spec: TaskSpec,
) -> Session:
    tokenizer = load_tokenizer(base) if tokenizer is None else tokenizer
    settle_tokens(model, tokenizer, task, directory)
    require_padding(tokenizer, task)
    model = model.eval().to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    return Session(source, base, method, model, tokenizer, task, recipe, spec)


def _own_task(source: str, stored: Task | None, bundle: AdapterBundle) -> str | None:
    """The task by the file beside the adapter, the list of releases, or PEFT's task type."""
    if stored is not None:
        return stored.name
    release = release_of(source)
    return release.task if release is not None else task_of_type(bundle.task_type)


def _adopted(stored: Task, options: LoadOptions, source: str) -> Task:
    """The stored task with the columns, and as the task, that the options name."""
    spec = task_spec(options.task or stored.name)
    return spec.adopt(
        stored, Columns(options.task, options.text, options.label), options.labels, source
    )


def _deciding(task: Task, options: LoadOptions) -> Task:
    """The task with the thresholds that the options name."""
    return task if options.thresholds is None else task.with_thresholds(options.thresholds)


def _bare_task(spec: TaskSpec, options: LoadOptions, bundle: AdapterBundle, base: str) -> Task:
    """The task of an adapter that has no task file."""
    config = load_config(base)
    names = config.id2label
    taken = find(bundle.method).extra_positions(bundle.method_config)
    adapter = BareAdapter(
        options.text or (),
        options.label,
        text_limit(load_tokenizer(base), base) - taken,
        options.labels,
        head_height(bundle),
        tuple(str(names[number]) for number in sorted(names)),
    )
    return spec.for_adapter(adapter).for_base(config)


def _require(source: str, base: str | None, task: str | None) -> None:
    problems: list[str] = []
    if base is None:
        problems.append("its files do not name the base model; pass --base MODEL")
    if task is None:
        problems.append(
            f"its files do not name the task; pass --task with one of {', '.join(TASKS)}"
        )
    elif problem := task_problem(task):
        problems.append(problem)
    if problems:
        raise ConfigError(f"The adapter {source} cannot be opened:", problems)
