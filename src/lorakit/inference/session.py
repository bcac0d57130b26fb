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
from lorakit.errors import ConfigError, FormatError, MismatchError
from lorakit.methods import load
from lorakit.models.loading import load_for_task
from lorakit.recipe.data import prepare, read_tables, split, text_limit
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import ADAPTER, RECIPE
from lorakit.tasks.base import Task
from lorakit.tasks.classification import Classification
from lorakit.tasks.columns import CHOICES, task_problem
from lorakit.tasks.glue.benchmark import (
    GLUE,
    HUB,
    MISMATCHED,
    GlueTask,
    make_glue_task,
    require_label_order,
)
from lorakit.tasks.nlg.task import CORPORA
from lorakit.tasks.task_file import KINDS, load_task
from lorakit.text import plural

TASK_OF = {"CAUSAL_LM": "generation", "SEQ_CLS": "classification"}


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
    glue: str | None = None
    """The task's name in GLUE, if it is one of GLUE's."""


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
    task = _asked(stored, ask, source) or _bare_task(named, ask, bundle, base)
    model = _load_adapted(base, task, bundle, source, ask)
    return _saved(source, base, bundle.method, model, task, Path(source), None, named)


def held_out_tables(saved: Session, data: str | None) -> dict[str, Any]:
    """What is evaluated on: `data`, else a run's test rows, else GLUE's; for MNLI two tables.

    Raises ConfigError for an adapter alone, unless its task is GLUE's.
    """
    if data is None and saved.recipe is not None:
        return {n: t for n, t in split(saved.recipe.data).items() if n in ("test", MISMATCHED)}
    if data is None and saved.glue is None:
        raise ConfigError(f"{saved.source} is an adapter without test rows; pass --data FILE.")
    return read_tables(data or HUB, saved.glue or saved.task.name, "test")


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
    task = _asked(load_task(adapter), ask, str(directory))
    task = task or prepare(recipe, split(recipe.data)["train"])[1]
    bundle = read(adapter, ask.lora_alpha)
    model = _load_adapted(base, task, bundle, str(adapter), ask, recipe.revision)
    name = ask.task or recipe.data.task
    return _saved(str(directory), base, recipe.method, model, task, adapter, recipe, name)


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
    name: str | None,
) -> Session:
    own = (files / "tokenizer_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(files if own else base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    glue = name if name in GLUE else None
    return Session(source, base, method, model, tokenizer, task, recipe, glue)


def _own_task(source: str, stored: Task | None, bundle: AdapterBundle) -> str | None:
    """What the file beside an adapter says, or the catalogue, or the kind of its base."""
    if stored is not None:
        return stored.name
    release = release_of(source)
    return release.task if release is not None else TASK_OF.get(bundle.task_type or "")


def _asked(task: Task | None, ask: LoadOptions, source: str) -> Task | None:
    """The stored task with the columns that were asked for, or the task of GLUE that it fits."""
    if task is None:
        return None
    if ask.task in GLUE and task.name in ("classification", "regression"):
        glue = GLUE[ask.task]
        stored: tuple[str, ...] = getattr(task, "labels", ())
        named = ask.labels or stored
        require_label_order(glue, named, source)
        return make_glue_task(glue, task.max_length)
    if ask.task is not None and ask.task != task.name:
        raise ConfigError(f"{source} was trained for {task.name}, not for {ask.task}.")
    return replace(task, text=ask.text or task.text, label=ask.label or task.label)


def _bare_task(name: str, ask: LoadOptions, bundle: AdapterBundle, base: str) -> Task:
    """The task of an adapter that brings no file about it."""
    config = AutoConfig.from_pretrained(base)
    limit = text_limit(AutoTokenizer.from_pretrained(base), base)
    text, label = ask.text or (), ask.label
    if name in GLUE:
        _require_head(GLUE[name], ask, bundle, config)
        return make_glue_task(GLUE[name], limit)
    if name in CORPORA:
        return CORPORA[name](max_length=limit)
    if name != "classification":
        return KINDS[name](text, label, limit)
    count = _head_height(bundle)
    labels = ask.labels or tuple(map(str, range(count)))
    if len(labels) != count:
        raise ConfigError(f"The adapter's head has {count} labels, and {len(labels)} are named.")
    return Classification(text, label, limit, labels)


def _require_head(task: GlueTask, ask: LoadOptions, bundle: AdapterBundle, config: Any) -> None:
    """Raise MismatchError unless the head has a logit for each label, in GLUE's order.

    Of an adapter that does not say what its logits mean, microsoft/LoRA's files among them, the
    base's own names are believed where they are the task's: run_glue trains in that order.
    """
    height, wanted = _head_height(bundle), len(task.labels) or 1
    if height != wanted:
        raise MismatchError(
            f"The adapter's head has {plural(height, 'logit')}, and {task.name} needs {wanted}."
        )
    own = tuple(str(label).lower() for _, label in sorted(config.id2label.items()))
    if ask.labels is not None:
        require_label_order(task, ask.labels, "--labels")
    elif set(own) == set(task.labels):
        require_label_order(task, own, "The base, whose order of labels its adapters follow,")


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
        problems.append(f"the task is not said; pass --task, one of {CHOICES}")
    elif problem := task_problem(task):
        problems.append(problem)
    if problems:
        raise ConfigError(f"{source} cannot be used as it is:", problems)
