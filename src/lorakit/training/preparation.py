"""From a recipe to a trainer: everything that training needs, checked before it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from lorakit.injection.inspection.report import Report
from lorakit.models.heads import output_layer
from lorakit.recipe.data import Log, encode, prepare, split
from lorakit.recipe.schema import Recipe
from lorakit.runs.checkpoints import complete_checkpoints
from lorakit.runs.directory import CHECKPOINTS, require_free_columns
from lorakit.runs.origin import ORIGIN, Facts, begin, require_same_origin
from lorakit.runs.writing import writing
from lorakit.tasks.base import Task
from lorakit.tasks.encoding import Truncation
from lorakit.tasks.ends import no_end_message
from lorakit.training.arguments import make_trainer
from lorakit.training.callbacks import BeforeSaving
from lorakit.training.model import adapt_model, grow_vocabulary, load_model
from lorakit.training.origin import origin_of
from lorakit.training.target_units import unfold_units
from lorakit.training.trackers import Trackers
from lorakit.training.trainer import LoraTrainer
from lorakit.training.warm_start import WarmStart, read_source, source_labels, warm_start


@dataclass(frozen=True)
class Workplace:
    """Where a run is made."""

    output: Path
    process: PartialState
    require_held: Callable[[], None]
    """Raises SaveError if the directory is no longer this run's."""
    trackers: Trackers
    log: Log


@dataclass(frozen=True)
class Prepared:
    """What a run trains, on what, and what it is measured with."""

    recipe: Recipe
    tables: Mapping[str, Any]
    encoded: Mapping[str, Any]
    truncated: Mapping[str, Truncation]
    tokenizer: Any
    task: Task
    ends: list[int]
    """The tokens at which generation stops."""
    model: Any
    report: Report
    """What of the model trains; prints as a table."""
    start: WarmStart | None
    trainer: LoraTrainer


def prepare_run(recipe: Recipe, place: Workplace) -> Prepared:
    """Data, model and trainer; writes down what the run begins with.

    Raises whatever can be wrong with a recipe, its data and its base, and StateError if the run had
    begun with others.
    """
    tables = split(recipe.data, place.log)
    tokenizer, task = prepare(recipe, tables["train"])
    require_free_columns(task)
    task.require_packages()
    read = {n: encode(task, tokenizer, table, n, place.log) for n, table in tables.items()}
    encoded = {name: rows for name, (rows, _) in read.items()}
    for sentence in task.remarks(tokenizer, tables["train"]):
        place.log(sentence)
    ends = _stop_tokens(task, tokenizer, encoded["train"], place.log)
    model, head = load_model(recipe, task)
    if place.process.is_main_process:
        _note_origin(place.output, origin_of(tables, encoded, task, tokenizer, model, head))
    grow_vocabulary(model, tokenizer, encoded, place.log)
    report = adapt_model(recipe, model, head)
    place.log(str(report))
    start = _warm_start(recipe, model, task, place)
    watching = [place.trackers, BeforeSaving(place.require_held)]
    output = place.output
    trainer = make_trainer(recipe, model, task, tokenizer, encoded, output, place.log, watching)
    truncated = {name: cut for name, (_, cut) in read.items()}
    return Prepared(
        recipe, tables, encoded, truncated, tokenizer, task, ends, model, report, start, trainer
    )


def _note_origin(output: Path, facts: Facts) -> None:
    note = require_same_origin if complete_checkpoints(output / CHECKPOINTS) else begin
    with writing(output / ORIGIN):
        note(output, facts)


def _stop_tokens(task: Task, tokenizer: Any, train: Any, log: Log) -> list[int]:
    """The tokens that training marks as an end; logs that there is none."""
    if not task.generates:
        return []
    ends = task.stop_tokens(tokenizer, train["labels"])
    if not ends:
        log(no_end_message(tokenizer))
    return ends


def _warm_start(recipe: Recipe, model: Any, task: Task, place: Workplace) -> WarmStart | None:
    """Initialise the model from `init_adapter`, and log what was loaded."""
    if recipe.init_adapter is None:
        return None
    with place.process.main_process_first():  # it may be downloaded
        bundle = read_source(recipe.init_adapter, recipe.lora.lora_alpha)
        there = source_labels(recipe.init_adapter)
    start = warm_start(model, bundle, recipe.init_adapter, task.class_names, there)
    if {*output_layer(dict(model.named_parameters()))} & {*start.loaded}:
        unfold_units(model, task)
    place.log(str(start))
    return start
