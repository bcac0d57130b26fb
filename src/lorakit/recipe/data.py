"""A recipe's data: tables read and split, open columns guessed, rows tokenized."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.models import loading
from lorakit.models.known_words import unknown_text
from lorakit.recipe.data_config import DataConfig, split_size
from lorakit.recipe.defaults import remaining_rows, with_defaults
from lorakit.recipe.rare_labels import keep_rare_labels
from lorakit.recipe.schema import Recipe
from lorakit.tasks.base import Task
from lorakit.tasks.columns import known_columns, make_task, resolve
from lorakit.tasks.encoding import encode_table, truncation_text
from lorakit.tasks.registry import TASKS
from lorakit.tasks.spec import Columns, TaskSpec

Log = Callable[[str], None]


def split(data: DataConfig, log: Log = lambda text: None) -> dict[str, Any]:
    """The tables `train`, `test`, `validation` if the recipe has one, and further test sets.

    A row that would be split off stays in training if no other row there has its label.
    """
    table = read_tables(data.train, data.task, "train")["train"]
    tables: dict[str, Any] = {}
    for name, part in (("test", _test(data)), ("validation", data.validation)):
        if isinstance(part, str):
            tables |= read_tables(part, data.task, name)
        elif part is not None:
            size = split_size(part, len(table))
            if size >= len(table):
                raise ConfigError(
                    f"data.{name} splits {size} rows from {data.train}, which has {len(table)}; at "
                    "least one has to remain for training."
                )
            parts = table.train_test_split(test_size=size, seed=data.split_seed)
            table, tables[name] = parts["train"], parts["test"]
            if data.label is not None:
                learned = _spec(data.task).task_class
                table, tables[name] = keep_rare_labels(
                    learned, table, tables[name], data.label, name, log
                )
    return {"train": table, **tables}


def read_tables(source: str, task: str | None, role: str) -> dict[str, Any]:
    """The table of "train", "validation" or "test" under that name, and further test sets."""
    return _spec(task).read(source, role)


def tested(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The test sets: `test`, and further ones, such as MNLI's `mismatched`."""
    return {name: table for name, table in tables.items() if name not in ("train", "validation")}


def _test(data: DataConfig) -> str | float:
    """data.test, or its default."""
    if data.test is not None:
        return data.test
    own = _spec(data.task).own_test(data.train)
    return 0.1 if own is None else own


def _spec(task: str | None) -> TaskSpec:
    """The spec of a task; data whose task is not known yet are read as a table."""
    return TASKS["classification" if task is None else task]


def with_guesses(recipe: Recipe, log: Log) -> Recipe:
    """The recipe with what is None in it guessed from the table: task, columns, how to train."""
    data = recipe.data
    table = read_tables(data.train, data.task, "train")["train"]
    given = known_columns(Columns(data.task, tuple(data.text or ()) or None, data.label))
    columns = resolve(table, given, data.train)
    if columns != given:
        log(f"guessed from {data.train}: {_in_words(columns, table.column_names)}")
    selects_best = bool(recipe.training.early_stopping)
    validation = 0.1 if selects_best and data.validation is None else data.validation
    learned = _spec(columns.task).task_class
    known: dict[str, Any] = {"task": columns.task, "text": columns.text, "label": columns.label}
    known["max_length"] = data.max_length or learned.piece_length
    data = replace(data, **known, validation=validation)
    left = remaining_rows(data, _test(data), len(table)) / len(table)
    examples = math.ceil(left * learned.example_count(table, columns.text or (), data.max_length))
    return with_defaults(replace(recipe, data=data), examples, log)


def _in_words(columns: Columns, names: Sequence[str]) -> str:
    """The task, the columns that it reads, and those of a table that it does not."""
    text, label = columns.text or (), columns.label
    unread = [name for name in names if name not in (*text, label)]
    return (
        f"task {columns.task}, text {', '.join(text)}"
        + (f", label {label}" if label else "")
        + (f"; not read: {', '.join(unread)}" if unread else "")
    )


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = loading.load_tokenizer(recipe.base, recipe.revision)
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    limit = text_limit(tokenizer, recipe.base, recipe.revision)
    task = make_task(train, columns, min(data.max_length or limit, limit))
    task = task.for_base(loading.load_config(recipe.base, recipe.revision))
    if data.end_token is not None:
        task = task.with_end_token(tokenizer, data.end_token)
    if data.thresholds is not None:
        task = task.with_thresholds(data.thresholds)
    return tokenizer, task


def text_limit(tokenizer: Any, base: str, revision: str | None = None) -> int:
    """The maximum sequence length, of the tokenizer and of the positions of the base."""
    positions = loading.length_limit(base, revision)
    stated = loading.stated_limit(tokenizer.model_max_length)
    return min(stated or loading.UNLIMITED, positions or loading.UNLIMITED)


def encode(task: Task, tokenizer: Any, table: Any, name: str, log: Log) -> Any:
    """The table as token ids, with a progress bar; logs what was truncated or is unknown."""
    with _bars(sys.stderr.isatty()):
        encoded, truncated = encode_table(task, tokenizer, table, name)
    if truncated:
        log(truncation_text(truncated, len(encoded), name, task.max_length))
    if unknown := unknown_text(tokenizer, encoded["input_ids"], name):
        log(unknown)
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
