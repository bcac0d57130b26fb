"""The plan of what `train` would do with a recipe: on its data, and without the base's weights.

It goes the way of `train` up to the trainer. Where data or tokenizer are not at hand, rows as long
as the recipe allows stand in for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorakit.errors import ConfigError, FormatError
from lorakit.methods import find
from lorakit.models.dtypes import resolve_dtype
from lorakit.models.fp32_head import head_names
from lorakit.models.loading import dropout_off
from lorakit.models.positions import UNLIMITED, position_limit
from lorakit.planner import bases
from lorakit.planner.device_plan import plan_device
from lorakit.planner.fakes import fake_copy
from lorakit.planner.plan import Plan
from lorakit.planner.planning import Recorded, plan_step
from lorakit.planner.settings import StepSettings
from lorakit.planner.table import PlanTable
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.data import Log, encode, prepare, split
from lorakit.recipe.defaults import MOST_BATCH
from lorakit.recipe.schema import Recipe
from lorakit.recipe.settled import settled
from lorakit.tasks.base import Task
from lorakit.training.arguments import make_trainer
from lorakit.training.largest_step import record_largest_step
from lorakit.training.model import adapt_model, model_on_meta, too_few_rows


@dataclass(frozen=True)
class _Read:
    """What of a recipe has to be read."""

    recipe: Recipe
    tokenizer: Any
    task: Task
    train: Any
    """The encoded training table."""


def plan_recipes(recipes: Mapping[str, Recipe], log: Log) -> PlanTable:
    """The plan of each recipe under its name; `log` gets what is said on the way, once.

    Raises as `train` does for a recipe, columns or a base that do not fit, and PlanError.
    """
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            log(text)

    return PlanTable({name: _plan(recipe, once) for name, recipe in recipes.items()})


def _plan(recipe: Recipe, log: Log) -> Plan:
    quiet = replace(recipe.training, deterministic=False, report_to=())
    recipe = replace(recipe, training=quiet)
    try:
        read = _read(recipe, log)
    except FormatError as error:
        log(f"Planned for rows as long as the recipe allows, and the base's own loss: {error}")
        return _plan_sizes(recipe)
    return _plan_data(read, log)


def _read(recipe: Recipe, log: Log) -> _Read:
    recipe = settled(recipe, log)
    table = split(recipe.data, log)["train"]
    tokenizer, task = prepare(recipe, table)
    return _Read(recipe, tokenizer, task, encode(task, tokenizer, table, "train", log)[0])


def _plan_data(read: _Read, log: Log) -> Plan:
    recipe, encoded = read.recipe, {"train": read.train}
    model = model_on_meta(recipe, read.task)
    name = type(model).__name__
    if too_few_rows(model, read.tokenizer, encoded) is not None:
        model.resize_token_embeddings(len(read.tokenizer), mean_resizing=False)
    mode = FakeTensorMode()
    model = fake_copy(model, mode)
    with mode:
        report = adapt_model(recipe, model, head_names(model))
    with TemporaryDirectory() as scratch:
        trainer = make_trainer(
            recipe,
            model,
            read.task,
            read.tokenizer,
            encoded,
            Path(scratch),
            log,
            places_model=False,
        )
        step = record_largest_step(model, mode, trainer, recipe.training)
    settings = _settings(recipe, step.rows, step.shape)
    with mode:
        device = plan_device(model, settings, step.recording.events)
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Recorded(name, report, trains, step.recording, False, device).plan(settings)


def _plan_sizes(recipe: Recipe) -> Plan:
    config = bases.config_of(recipe.base, recipe.revision)
    if recipe.training.base_dropout == "off":
        config.update(dropout_off(config))
    model = bases.model_on_meta(config, recipe.base)
    length = _longest(recipe, position_limit(model))
    rows = recipe.training.total_batch or MOST_BATCH
    most = max(1, recipe.training.token_budget // length)
    return plan_step(model, _settings(recipe, rows, (min(rows, most), length)))


def _longest(recipe: Recipe, positions: int | None) -> int:
    """The tokens of the longest row that the recipe allows.

    Raises ConfigError if neither it nor the base limits them.
    """
    method, settings = find(recipe.method), asdict(recipe.method_config)
    method.require_room(settings, positions or UNLIMITED, 1)
    room = None if positions is None else positions - method.extra_positions(settings)
    sizes = [size for size in (recipe.data.max_length, room) if size is not None]
    if not sizes:
        raise ConfigError(f"{recipe.base} reads texts of any length; set data.max_length.")
    return min(sizes)


def _settings(recipe: Recipe, rows: int, shape: tuple[int, ...]) -> StepSettings:
    """Of a step of `rows` rows whose largest micro-batch has this shape."""
    training = recipe.training
    return StepSettings(
        recipe.method,
        recipe.method_config,
        batch=rows * math.prod(shape[1:-1]),
        length=shape[-1],
        dtype=resolve_dtype(training.dtype),
        checkpointing=training.gradient_checkpointing,
        token_budget=math.prod(shape),
        max_grad_norm=training.max_grad_norm,
    )
