"""From a recipe to what a Trainer needs: tables, task, examples, model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from transformers import AutoConfig, AutoTokenizer

import lorakit.training.base_model as base_model
from lorakit.baselines import train_full, train_head
from lorakit.errors import ConfigError
from lorakit.injection.adaptation import inject
from lorakit.tasks.base import Task
from lorakit.tasks.columns import Columns, make_task, resolve
from lorakit.tasks.encoding import cut_text, encode_table
from lorakit.tasks.glue import GLUE
from lorakit.tasks.glue_files import glue_tables, is_file
from lorakit.tasks.nlg.task import CORPORA
from lorakit.tasks.tables import read_table
from lorakit.training.attention import use_fastest_attention
from lorakit.training.precision import chosen, store_frozen
from lorakit.training.recipe import DataConfig, Recipe

Say = Callable[[str], None]


def split(data: DataConfig) -> dict[str, Any]:
    """The tables `train`, `test` and, where asked for, `validation`; for MNLI `mismatched` too."""
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
    """The table for "train", "validation" or "test" by its role; MNLI's `mismatched` beside it."""
    if task in GLUE:
        return glue_tables(source, GLUE[task], role)
    return {role: read_table(source, role, task)}


def _own_test(data: DataConfig) -> str | float:
    """What is tested on where a recipe does not say it."""
    return data.train if data.task in GLUE and not is_file(data.train) else 0.1


def prepare(recipe: Recipe, train: Any) -> tuple[Any, Task]:
    """The tokenizer, and the task with the labels of the training table."""
    tokenizer = AutoTokenizer.from_pretrained(recipe.base, revision=recipe.revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = recipe.data
    columns = Columns(data.task, tuple(data.text or ()) or None, data.label)
    limit = text_limit(tokenizer, recipe.base, recipe.revision)
    return tokenizer, make_task(train, columns, min(data.max_length or limit, limit))


def text_limit(tokenizer: Any, base: str, revision: str | None = None) -> int:
    """Tokens of one example at most, for the tokenizer and for the positions of the base."""
    positions = base_model.length_limit(base, revision) or base_model.UNLIMITED
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


def build_model(recipe: Recipe, task: Task, say: Say) -> Any:
    """The base with the task's head, prepared by the recipe's method, in the types that it says."""
    dtype = chosen(recipe.training.dtype)
    settings = task.head()
    if recipe.training.base_dropout == "off":
        settings |= base_model.no_dropout(recipe.base, recipe.revision)
    if recipe.training.classifier_dropout is not None:
        settings[_dropout_setting(recipe, task)] = recipe.training.classifier_dropout
    model, head = base_model.load_for_task(recipe.base, task.auto_class, settings, recipe.revision)
    if recipe.method == "full":
        train_full(model)
    elif recipe.method == "head":
        train_head(model, head)
    else:
        saved = tuple(dict.fromkeys([*(recipe.lora.modules_to_save or ()), *head]))
        say(str(inject(model, recipe.lora.replace(modules_to_save=saved or None))))
    store_frozen(model, dtype)
    use_fastest_attention(model, dtype)
    return model


def _dropout_setting(recipe: Recipe, task: Task) -> str:
    """What the base's config calls the dropout before its head; DeBERTa has a name of its own.

    Raises ConfigError if it has none.
    """
    config = AutoConfig.from_pretrained(recipe.base, revision=recipe.revision)
    if config.model_type.startswith("deberta"):
        return "cls_dropout"
    known = [n for n in ("classifier_dropout", "seq_classif_dropout") if hasattr(config, n)]
    if not known or task.auto_class != "AutoModelForSequenceClassification":
        raise ConfigError(
            f"training.classifier_dropout is set, and {recipe.base} ({config.model_type}) has no "
            f"such setting for the task {task.name}; leave it out."
        )
    return known[0]


def with_guesses(recipe: Recipe, say: Say) -> Recipe:
    """The recipe with its columns filled in from the table."""
    data = recipe.data
    table = read_tables(data.train, data.task, "train")["train"]
    given = Columns(data.task, tuple(data.text or ()) or None, data.label)
    columns = resolve(table, given, data.train)
    if columns != given and data.task not in GLUE and data.task not in CORPORA:
        say(
            f"guessed from {data.train}: task {columns.task}, text {', '.join(columns.text or ())}"
            + (f", label {columns.label}" if columns.label else "")
        )
    choosing = recipe.training.early_stopping is not None
    validation = 0.1 if choosing and data.validation is None else data.validation
    known: dict[str, Any] = {"task": columns.task, "text": columns.text, "label": columns.label}
    return replace(recipe, data=replace(data, **known, validation=validation))
