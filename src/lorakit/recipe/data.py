"""A recipe's data: its tables read and set apart, its open columns guessed, its rows encoded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import AutoTokenizer

from lorakit.errors import ConfigError
from lorakit.models import loading
from lorakit.recipe.schema import DataConfig, Recipe
from lorakit.tasks.base import Task
from lorakit.tasks.columns import known_columns, make_task, resolve
from lorakit.tasks.encoding import cut_text, encode_table
from lorakit.tasks.padding import with_pad_token
from lorakit.tasks.registry import TASKS
from lorakit.tasks.spec import Columns, TaskSpec

Say = Callable[[str], None]


def split(data: DataConfig) -> dict[str, Any]:
    """The tables `train`, `test`, `validation` if it is asked for, and what a task has besides."""
    table = read_tables(data.train, data.task, "train")["train"]
    tables: dict[str, Any] = {}
    for name, part in (("test", data.test if data.test is not None else _own_test(data)),
                       ("validation", data.validation)):  # fmt: skip
        if isinstance(part, str):
            tables |= read_tables(part, data.task, name)
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


def read_tables(source: str, task: str | None, role: str) -> dict[str, Any]:
    """The table for "train", "validation" or "test" by its role, and what a task has besides."""
    return _spec(task).read(source, role)


def tested(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are tested on: `test`, and further ones, such as MNLI's `mismatched`."""
    return {name: table for name, table in tables.items() if name not in ("train", "validation")}


def _own_test(data: DataConfig) -> str | float:
    """What is tested on where a recipe does not say it."""
    own = _spec(data.task).own_test(data.train)
    return 0.1 if own is None else own


def _spec(task: str | None) -> TaskSpec:
    """A task by its name; data whose task is to be guessed are read as a table."""
    return TASKS["classification" if task is None else task]


def with_guesses(recipe: Recipe, say: Say) -> Recipe:
    """The recipe with its columns filled in from the table."""
    data = recipe.data
    table = read_tables(data.train, data.task, "train")["train"]
    given = known_columns(Columns(data.task, tuple(data.text or ()) or None, data.label))
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


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = with_pad_token(AutoTokenizer.from_pretrained(recipe.base, revision=recipe.revision))
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    limit = text_limit(tokenizer, recipe.base, recipe.revision)
    return tokenizer, make_task(train, columns, min(data.max_length or limit, limit))


def text_limit(tokenizer: Any, base: str, revision: str | None = None) -> int:
    """Tokens of one example at most, for the tokenizer and for the positions of the base."""
    positions = loading.length_limit(base, revision) or loading.UNLIMITED
    return min(int(tokenizer.model_max_length), positions)


def encode(task: Task, tokenizer: Any, table: Any, name: str, say: Say) -> Any:
    """The table as token ids, with a progress bar; says how many rows were too long."""
    with _bars(sys.stderr.isatty()):
        encoded, cut = encode_table(task, tokenizer, table, name)
    if cut:
        say(cut_text(cut, len(encoded), name, task.max_length))
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
