"""A recipe's data: tables read and split, open columns guessed, rows tokenized."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.methods import find
from lorakit.models import loading
from lorakit.models.known_words import unknown_text
from lorakit.models.positions import UNLIMITED, length_limit, stated_limit
from lorakit.recipe.blanks import without_blanks
from lorakit.recipe.data_config import DataConfig, split_size
from lorakit.recipe.defaults import remaining_rows, with_defaults
from lorakit.recipe.drawn_rows import drawn_rows, drawn_size
from lorakit.recipe.rare_labels import keep_rare_labels
from lorakit.recipe.schema import Recipe
from lorakit.recipe.sources import (
    Source,
    mixed_table,
    seen_rows,
    set_apart,
    shares_text,
    whole_table,
    without_trained,
)
from lorakit.tables.joining import alike
from lorakit.tables.progress import progress_bars
from lorakit.tables.readings import reading_text
from lorakit.tasks.base import Task
from lorakit.tasks.columns import guess, known_columns, make_task
from lorakit.tasks.encoding import Truncation, encode_table, truncation_text
from lorakit.tasks.registry import TASKS
from lorakit.tasks.spec import Columns, TaskSpec

Log = Callable[[str], None]


def _silent(text: str) -> None:
    """The log of what has been said already, or is for nobody."""


def split(data: DataConfig, log: Log = _silent) -> dict[str, Any]:
    """The tables `train`, `test`, `validation` if the recipe has one, and further test sets.

    A row that would be split off stays in training if no other row there has its label. If the run
    is measured on its validation set, that is `test` as well, and a file of test rows is not read.
    """
    sources = _sources(data, _silent)
    if data.blank == "drop":
        sources = [_without_blanks(data, source) for source in sources]
    tables: dict[str, Any] = {}
    own: list[str] = []
    for name, part in _parts(data).items():
        if isinstance(part, str):
            found = _read(part, data.task, name, log)
            tables |= {key: without_blanks(data, part, key, log) for key, part in found.items()}
        elif part is not None:
            own.append(name)
            sources, tables[name] = _split_off(data, sources, name, part, log)
    train = mixed_table(sources, data.split_seed)
    if len(data.sources) > 1:
        for name in own:
            tables[name] = without_trained(tables[name], train, data.text or (), name, log)
    if data.measured_on == "validation":
        tables = dict.fromkeys(("validation", "test"), tables["validation"])
    return {"train": drawn_rows(data, _spec(data.task).task_class, train), **tables}


def _parts(data: DataConfig) -> dict[str, str | float | None]:
    """The sets beside `train` that are read or split off, in this order."""
    test = _test(data)
    unread = isinstance(test, str) and data.measured_on == "validation"
    return {**({} if unread else {"test": test}), "validation": data.validation}


def _split_off(
    data: DataConfig, sources: list[Source], name: str, part: float, log: Log
) -> tuple[list[Source], Any]:
    """The training rows without those of data.test or data.validation, and these."""
    rows = sum(len(source.table) for source in sources)
    size = split_size(part, rows)
    if size >= rows:
        raise ConfigError(
            f"data.{name} splits {size} rows from {data.train_name}, which has {rows}; at least "
            "one has to remain for training."
        )
    sources, table = set_apart(sources, size, data.split_seed)
    if data.label is None:
        return sources, table
    learned, train = _spec(data.task).task_class, whole_table(sources)
    longer, table = keep_rare_labels(learned, train, table, data.label, name, log)
    if moved := range(len(train), len(longer)):
        sources = [*sources, Source(f"rare labels of {name}", longer.select(moved))]
    return sources, table


def _sources(data: DataConfig, log: Log) -> list[Source]:
    """The files of data.train, each with its weight.

    Several may differ in columns that nothing reads, if data.text and data.label name the others.
    """
    named = {*(data.text or ()), *filter(None, [data.label])}
    is_known = bool(data.text) and (data.label or not _spec(data.task).task_class.needs_label)
    tables = training_tables(data, log)
    differ = len({frozenset(table.column_names) for table in tables.values()}) > 1
    if differ and is_known:
        tables = {
            name: table.select_columns([column for column in table.column_names if column in named])
            for name, table in tables.items()
        }
    return [Source(name, t, data.sources[name]) for name, t in alike(tables).items()]


def training_tables(data: DataConfig, log: Log = _silent) -> dict[str, Any]:
    """The table of each file of data.train, as it was read."""
    return {name: _read(name, data.task, "train", log)["train"] for name in data.sources}


def _without_blanks(data: DataConfig, source: Source, log: Log = _silent) -> Source:
    return replace(source, table=without_blanks(data, source.table, source.name, log))


def _read(source: str, task: str | None, role: str, log: Log) -> dict[str, Any]:
    """The table of "train", "validation" or "test" under that name, and further test sets.

    Logs how it was read, where the file's name does not say it.
    """
    tables = _spec(task).read(source, role)
    if said := reading_text(tables[role], source):
        log(said)
    return tables


def tested(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The test sets: `test`, and further ones, such as MNLI's `mismatched`."""
    return {name: table for name, table in tables.items() if name not in ("train", "validation")}


def _test(data: DataConfig) -> str | float:
    """data.test, or its default."""
    if data.test is not None:
        return data.test
    own = map(_spec(data.task).own_test, data.sources)
    return next((source for source in own if source is not None), 0.1)


def _spec(task: str | None) -> TaskSpec:
    """The spec of a task; data whose task is not known yet are read as a table."""
    return TASKS["classification" if task is None else task]


def columns_of(data: DataConfig) -> Columns:
    """The task and the columns, those that the recipe leaves open guessed from the table."""
    return guess(whole_table(_sources(data, _silent)), _given(data), data.train_name)


def _given(data: DataConfig) -> Columns:
    return known_columns(Columns(data.task, tuple(data.text or ()) or None, data.label))


def with_guesses(recipe: Recipe, log: Log) -> Recipe:
    """The recipe with what is None in it guessed from the table: task, columns, how to train."""
    data = recipe.data
    sources = _sources(data, log)
    table = whole_table(sources)
    given = _given(data)
    columns = guess(table, given, data.train_name)
    if columns != given:
        log(f"guessed from {data.train_name}: {in_words(columns, table.column_names)}")
    needs_validation = data.needs_validation or bool(recipe.training.early_stopping)
    validation = 0.1 if needs_validation and data.validation is None else data.validation
    learned = _spec(columns.task).task_class
    known: dict[str, Any] = {"task": columns.task, "text": columns.text, "label": columns.label}
    known["max_length"] = data.max_length or learned.piece_length
    data = replace(data, **known, validation=validation)
    sources = [_without_blanks(data, source, log) for source in sources]
    table = whole_table(sources)
    make_task(table, columns, max_length=1).check(table, data.train_name)
    if len(sources) > 1 or any(source.weight != 1 for source in sources):
        log(f"an epoch sees, but for the rows that are set apart: {shares_text(sources)}")
    left = remaining_rows(data, _test(data), len(table)) / len(table)
    seen = seen_rows(sources) / len(table)
    pieces = learned.example_count(table, columns.text or (), data.max_length)
    rows = max(1, round(left * seen * len(table)))
    examples = math.ceil(left * seen * pieces * drawn_size(data, rows) / rows)
    return with_defaults(replace(recipe, data=data), examples, log)


def in_words(columns: Columns, names: Sequence[str]) -> str:
    """The task and why, the columns that it reads, and those of a table that it does not."""
    text, label = columns.text or (), columns.label
    unread = [name for name in names if name not in (*text, label)]
    return (
        f"task {columns.task}{f' ({columns.why})' if columns.why else ''}, text {', '.join(text)}"
        + (f", label {label}" if label else "")
        + (f"; not read: {', '.join(unread)}" if unread else "")
    )


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = loading.load_tokenizer(recipe.base, recipe.revision)
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    method, settings = find(recipe.method), asdict(recipe.method_config)
    positions = text_limit(tokenizer, recipe.base, recipe.revision)
    method.require_room(settings, positions, 1 + max(1, tokenizer.num_special_tokens_to_add()))
    limit = positions - method.extra_positions(settings)
    task = make_task(train, columns, min(data.max_length or limit, limit))
    task = task.for_base(loading.load_config(recipe.base, recipe.revision))
    if data.end_token is not None:
        task = task.with_end_token(tokenizer, data.end_token)
    if data.first_thresholds is not None:
        task = task.with_thresholds(data.first_thresholds)
    return tokenizer, task


def text_limit(tokenizer: Any, base: str, revision: str | None = None) -> int:
    """The maximum sequence length, of the tokenizer and of the positions of the base."""
    positions = length_limit(base, revision)
    stated = stated_limit(tokenizer.model_max_length)
    return min(stated or UNLIMITED, positions or UNLIMITED)


def encode(task: Task, tokenizer: Any, table: Any, name: str, log: Log) -> tuple[Any, Truncation]:
    """The table as token ids, with a progress bar; logs what was truncated or is unknown."""
    with progress_bars(sys.stderr.isatty()):
        encoded, truncated = encode_table(task, tokenizer, table, name)
    if truncated.rows:
        log(truncation_text(truncated, len(encoded), name, task.max_length))
    if unknown := unknown_text(tokenizer, encoded["input_ids"], name):
        log(unknown)
    return encoded, truncated
