"""From a recipe to a run directory: adapter, recipe, metrics, predictions, learning curve."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from lorakit.foreign_files import local_path
from lorakit.inference.generation import generate_test_rows
from lorakit.inference.partial_outputs import remove_partial
from lorakit.inference.scoring import joined
from lorakit.inference.session import Session
from lorakit.methods import save_adapter
from lorakit.models.dtypes import resolve_dtype
from lorakit.models.stop_tokens import save_generation_config, set_stop_tokens
from lorakit.recipe.data import Log, encode, prepare, split, tested, with_guesses
from lorakit.recipe.schema import Recipe
from lorakit.runs.checkpoints import complete_checkpoints, newest_whole
from lorakit.runs.claim import claimed, require_own
from lorakit.runs.directory import (
    ADAPTER,
    CHECKPOINTS,
    PREDICTIONS,
    RunResult,
    read_result,
    require_free_columns,
    write_files,
)
from lorakit.runs.origin import ORIGIN, begin, require_same_origin
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.ends import no_end_message
from lorakit.tasks.registry import task_spec
from lorakit.tasks.task_file import save_task
from lorakit.training.arguments import make_trainer
from lorakit.training.callbacks import BeforeSaving
from lorakit.training.model import adapt_model, load_model
from lorakit.training.origin import origin_of
from lorakit.training.result import run_result
from lorakit.training.trainer import LoraTrainer
from lorakit.training.warm_start import WarmStart, read_source, source_labels, warm_start


def train(recipe: Recipe, log: Log = print) -> RunResult:
    """Train by a recipe; resumes an interrupted run, and returns the result of a finished one.

    Under `torchrun` every process trains on its share, and the first one writes and logs.

    Raises ConfigError, FormatError or MismatchError for settings, files or a base that do not fit,
    StateError if the output holds another recipe's run, SaveError if another process writes it or
    it can no longer be written, TrainingError if a trainable tensor does not change or a loss is
    not finite.
    """
    process = PartialState()
    log = log if process.is_main_process else _silent
    output = local_path(recipe.output)
    with process.main_process_first():
        recipe = with_guesses(recipe, log)
        require_own(output, recipe)
        result = read_result(output, log)
    if result is not None:
        log(f"The run in {output} is finished already; its result:")
        return result
    held = claimed(output, recipe) if process.is_main_process else nullcontext(_nothing)
    with held as require_held, _determinism(recipe.training.deterministic):
        return _train(recipe, output, process, require_held, log)


def _train(
    recipe: Recipe, output: Path, process: PartialState, require_held: Callable[[], None], log: Log
) -> RunResult:
    set_seed(recipe.training.seed)
    tables = split(recipe.data, log)
    tokenizer, task = prepare(recipe, tables["train"])
    require_free_columns(task)
    task.require_packages()
    encoded = {n: encode(task, tokenizer, table, n, log) for n, table in tables.items()}
    for sentence in task.unread(tokenizer, tables["train"]):
        log(sentence)
    ends = _stop_tokens(task, tokenizer, encoded["train"], log)
    model, head = load_model(recipe, task)
    if process.is_main_process:
        begun = complete_checkpoints(output / CHECKPOINTS)
        note_origin = require_same_origin if begun else begin
        facts = origin_of(tables, encoded, task, tokenizer, model, head)
        with writing(output / ORIGIN):
            note_origin(output, facts)
    model = adapt_model(recipe, model, head, log)
    start = _warm_start(recipe, model, task, process, log)
    trainer = make_trainer(recipe, model, task, tokenizer, encoded, output, log)
    trainer.add_callback(BeforeSaving(require_held))
    _fit(trainer, output, process, log)
    require_held()
    seconds = trainer.seconds
    if task.generates:
        set_stop_tokens(model, tokenizer, ends)
    examined = {name: trainer.examine(table) for name, table in tested(encoded).items()}
    if process.is_main_process:
        with writing(output / ADAPTER):
            _save(model, tokenizer, task, output / ADAPTER)
    metrics = joined({name: found for name, (found, _) in examined.items()})
    predictions = examined["test"][1]
    if task.generates:
        spec = task_spec(recipe.data.task or task.name)
        base, method = recipe.base, recipe.method
        dtype = resolve_dtype(recipe.training.dtype)
        session = Session(str(output), base, method, model, tokenizer, task, recipe, spec, dtype)
        partial, progress = output / PREDICTIONS, sys.stderr.isatty()
        predictions = generate_test_rows(session, tables["test"], partial, progress)
    require_held()
    if process.is_main_process:
        with writing(output / PREDICTIONS):
            metrics |= task.report(tables["test"], predictions, output, log)
    process.wait_for_everyone()
    result = run_result(recipe, task, trainer, tables, metrics, seconds, output, start)
    if process.is_main_process:
        write_files(output, result, predictions, tables["test"], task, trainer.state.log_history)
        remove_partial(output / PREDICTIONS)
    return result


def _save(model: Any, tokenizer: Any, task: Task, directory: Path) -> None:
    """The adapter, and beside it what it takes to use it."""
    save_adapter(model, directory)
    tokenizer.save_pretrained(directory)
    save_task(task, directory)
    if task.generates:
        save_generation_config(model, directory)


def _stop_tokens(task: Task, tokenizer: Any, train: Any, log: Log) -> list[int]:
    """The tokens that training marks as an end; logs that there is none."""
    if not task.generates:
        return []
    ends = task.stop_tokens(tokenizer, train["labels"])
    if not ends:
        log(no_end_message(tokenizer))
    return ends


def _warm_start(
    recipe: Recipe, model: Any, task: Task, process: PartialState, log: Log
) -> WarmStart | None:
    """Initialise the model from `init_adapter`, and log what was loaded."""
    if recipe.init_adapter is None:
        return None
    with process.main_process_first():  # it may be downloaded
        bundle = read_source(recipe.init_adapter, recipe.lora.lora_alpha)
    there = source_labels(recipe.init_adapter)
    start = warm_start(model, bundle, recipe.init_adapter, task.class_names, there)
    log(str(start))
    return start


def _fit(trainer: LoraTrainer, output: Path, process: PartialState, log: Log) -> None:
    """Train from the newest whole checkpoint, or from the beginning."""
    process.wait_for_everyone()  # the first has said what the run began with
    checkpoint = newest_whole(output / CHECKPOINTS, log)
    if checkpoint is not None:
        log(f"resuming from {checkpoint.path}")
    process.wait_for_everyone()  # all have seen the same checkpoints before one writes
    trainer.train_from(checkpoint)


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms inside; the caller's setting is restored afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _nothing() -> None:
    """The check of processes other than the first, which write nothing."""


def _silent(text: str) -> None:
    """The log of processes other than the first."""
