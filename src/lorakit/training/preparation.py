"""From a recipe to what a Trainer needs: tables, task, examples, model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import AutoTokenizer

import lorakit.training.base_model as base_model
from lorakit.baselines import train_full, train_head
from lorakit.errors import ConfigError
from lorakit.injection.adaptation import inject
from lorakit.tasks.base import Task
from lorakit.tasks.columns import Columns, make_task, resolve
from lorakit.tasks.encoding import cut_text, encode_table
from lorakit.tasks.tables import read_table
from lorakit.training.precision import chosen, store_frozen
from lorakit.training.recipe import DataConfig, Recipe

Say = Callable[[str], None]


def split(data: DataConfig) -> dict[str, Any]:
    """The tables `train`, `test` and, where asked for, `validation`."""
    table = read_table(data.train)
    tables: dict[str, Any] = {}
    for name, part in (("test", data.test if data.test is not None else 0.1),
                       ("validation", data.validation)):  # fmt: skip
        if isinstance(part, str):
            tables[name] = read_table(part, "validation" if name == "validation" else "test")
        elif part is not None:
            size = int(part) if part >= 1 else max(1, round(part * len(table)))
            if size >= len(table):
                raise ConfigError(
                    f"{data.train} has {len(table)} rows; {size} of them cannot be set apart for "
                    f"{name}."
                )
            parts = table.train_test_split(test_size=size, seed=data.split_seed)
            table, tables[name] = parts["train"], parts["test"]
    return {"train": table, **tables}


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = AutoTokenizer.from_pretrained(recipe.base, revision=recipe.revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    limit = min(
        tokenizer.model_max_length,
        base_model.length_limit(recipe.base, recipe.revision) or base_model.UNLIMITED,
    )
    return tokenizer, make_task(train, columns, min(data.max_length or limit, limit))


def encode(task: Task, tokenizer: Any, table: Any, name: str, say: Say) -> Any:
    """The table as token ids, with a progress bar; says how many rows were too long."""
    with _bars(sys.stderr.isatty()):
        encoded, cut = encode_table(task, tokenizer, table, name)
    if cut:
        say(cut_text(cut, len(table), name, task.max_length))
    return encoded


@contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    import datasets

    before = datasets.are_progress_bars_disabled()
    if not wanted:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not wanted and not before:
            datasets.enable_progress_bars()


def build_model(recipe: Recipe, task: Task, say: Say) -> Any:
    """The base with the task's head, prepared by the recipe's method, in the types that it says."""
    dtype = chosen(recipe.training.dtype)
    model, head = base_model.load_for_task(
        recipe.base, task.auto_class, task.head(), recipe.revision
    )
    if recipe.method == "full":
        train_full(model)
    elif recipe.method == "head":
        train_head(model, head)
    else:
        saved = tuple(dict.fromkeys([*(recipe.lora.modules_to_save or ()), *head]))
        say(str(inject(model, recipe.lora.replace(modules_to_save=saved or None))))
    store_frozen(model, dtype)
    return model


def with_guesses(recipe: Recipe, say: Say) -> Recipe:
    """The recipe with its columns filled in from the table."""
    table = read_table(recipe.data.train)
    data = recipe.data
    given = Columns(data.task, tuple(data.text or ()) or None, data.label)
    columns = resolve(table, given, data.train)
    if columns != given:
        say(
            f"guessed from {data.train}: task {columns.task}, text {', '.join(columns.text or ())}"
            + (f", label {columns.label}" if columns.label else "")
        )
    choosing = recipe.training.early_stopping is not None
    validation = 0.1 if choosing and data.validation is None else data.validation
    known: dict[str, Any] = {"task": columns.task, "text": columns.text, "label": columns.label}
    return replace(recipe, data=replace(data, **known, validation=validation))
