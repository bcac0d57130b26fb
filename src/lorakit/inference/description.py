"""What is known of a run or an adapter before a model is loaded.

A run directory holds its recipe, so it needs nothing else. An adapter alone may lack the base, the
task or the columns; then they have to be given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.releases import release_of
from lorakit.errors import ConfigError
from lorakit.methods import find
from lorakit.models.dtypes import Dtype, inference_dtype
from lorakit.models.heads import head_height, output_layer
from lorakit.models.loading import load_config, load_tokenizer
from lorakit.recipe.data import prepare, split, text_limit
from lorakit.recipe.schema import Recipe
from lorakit.runs.adapter_place import place_of
from lorakit.runs.beside import load_own_tokenizer, stored_task
from lorakit.runs.finished import FinishedRun
from lorakit.tasks.base import BareAdapter, Task
from lorakit.tasks.registry import TASKS, task_of_type, task_problem, task_spec
from lorakit.tasks.spec import Columns, TaskSpec
from lorakit.tasks.task_file import load_task


@dataclass(frozen=True)
class LoadOptions:
    """What the caller knows about an adapter; None: as in its files."""

    base: str | None = None
    """Directory or hub id of the base model; another one than a run's is read at its newest
    revision."""
    lora_alpha: float | None = None
    """For files that do not store it (loralib's)."""
    revision: str | None = None
    """Branch, tag or commit of the adapter on the Hub."""
    subfolder: str | None = None
    """Where in a directory or a repository it is."""
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
class Description:
    """A run or an adapter, with all of its files read."""

    source: str
    """The run or adapter."""
    base: str
    """Its base model."""
    revision: str | None
    """Branch, tag or commit of the base on the Hub."""
    bundle: AdapterBundle
    file: str
    """Where the bundle was read from, for messages."""
    directory: Path | None
    """The directory of the files beside it; None for a file alone."""
    tokenizer: Any
    """The adapter's own tokenizer; None: the base's."""
    task: Task
    spec: TaskSpec
    """The entry of the task in `TASKS`: mnli and rte are both a classification `task`."""
    recipe: Recipe | None
    """The recipe of a run; None for an adapter alone."""
    dtype: Dtype
    """What it computes in: a run in the dtype of its training."""


def describe(
    source: str, options: LoadOptions | None = None, default_task: str | None = None
) -> Description:
    """Read `source`, a run directory or an adapter (directory, file or hub id).

    `options` override what stands beside it. `default_task` is the task of an adapter that names
    none. Raises ConfigError that lists what is missing, FormatError for damaged files.
    """
    options = options or LoadOptions()
    place = place_of(source, options.revision, options.subfolder)
    source = place.source
    bundle = place.read(options.lora_alpha)
    if place.run is not None:
        return _of_run(source, place.run, bundle, options)
    base = options.base or bundle.base_model
    directory = place.directory()
    stored = stored_task(directory)
    named = options.task or _own_task(source, stored, bundle) or default_task
    _require(source, base, named)
    assert base is not None
    assert named is not None
    spec = task_spec(named)
    task = _adopted(stored, options, source) if stored else _bare_task(spec, options, bundle, base)
    task, own = _deciding(task, options), load_own_tokenizer(directory)
    return Description(
        source, base, None, bundle, source, directory, own, task, spec, None, dtype="fp32"
    )


def _of_run(
    source: str, run: FinishedRun, bundle: AdapterBundle, options: LoadOptions
) -> Description:
    adapter, base = run.adapter, options.base or run.recipe.base
    revision = run.recipe.revision if base == run.recipe.base else None
    recipe = replace(run.recipe, base=base, revision=revision)
    stored = load_task(adapter) or _task_again(recipe, bundle)
    task = _deciding(_adopted(stored, options, source), options)
    own = load_own_tokenizer(adapter)
    spec = task_spec(options.task or recipe.data.task or task.name)
    dtype = inference_dtype(recipe.training.dtype)
    return Description(
        source, base, revision, bundle, str(adapter), adapter, own, task, spec, recipe, dtype
    )


def _task_again(recipe: Recipe, bundle: AdapterBundle) -> Task:
    """The task that a run was finished with, from its data."""
    _, task = prepare(recipe, split(recipe.data)["train"])
    return task.with_folded_units(output_layer(bundle.trained))


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
