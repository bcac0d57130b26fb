"""The largest step of what `train` would do with a recipe, without the base's weights.

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
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.fakes import fake_copy
from lorakit.planner.planning import Recorded, Step, record, require_divisible
from lorakit.planner.quantised import linear_weights, quantisable
from lorakit.planner.settings import StepSettings
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.data import Log, encode, prepare, split
from lorakit.recipe.defaults import MOST_BATCH
from lorakit.recipe.schema import Recipe
from lorakit.recipe.settled import settled
from lorakit.tasks.base import Task
from lorakit.training.arguments import make_trainer
from lorakit.training.largest_step import record_largest_step, row_lengths
from lorakit.training.model import adapt_model, model_on_meta, too_few_rows
from lorakit.training.trainer import passes_of


@dataclass(frozen=True)
class _Read:
    """What of a recipe has to be read."""

    recipe: Recipe
    tokenizer: Any
    task: Task
    train: Any
    """The encoded training table."""


def recipe_steps(
    recipes: Mapping[str, Recipe], log: Log, devices: StepSettings | None = None
) -> dict[str, Step]:
    """The largest step of each recipe under its name; `log` gets what is said on the way, once.

    Of `devices` count `devices`, `parallel`, `reshard_after_forward` and `quantised`.

    Raises as `train` does for a recipe, columns or a base that do not fit, and PlanError.
    """
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            log(text)

    found = (_RecipeStep(one, devices or StepSettings(), once) for one in recipes.values())
    return {
        name: Step(step.settings, step.record) for name, step in zip(recipes, found, strict=True)
    }


class _RecipeStep:
    """The largest step of a recipe's run, as it is and with other settings."""

    def __init__(self, recipe: Recipe, devices: StepSettings, log: Log) -> None:
        quiet = replace(recipe.training, deterministic=False, report_to=())
        self._recipe = replace(recipe, training=quiet)
        self._devices, self._log = devices, log
        self._reads: dict[int | None, _Read | str] = {}
        self.settings, self._recorded = self._record(self._recipe, {})
        """As the recipe has it."""

    def record(self, step: StepSettings) -> Recorded:
        """Of the recipe with the settings in which a step differs, as an answer of `Fit` says."""
        asked, recipe = self.settings, self._recipe
        if step == asked:
            return self._recorded
        if step.length != asked.length:
            recipe = replace(recipe, data=replace(recipe.data, max_length=step.length))
        recipe = replace(recipe, settings={**recipe.settings, recipe.method: step.method_config})
        training: dict[str, Any] = {"gradient_checkpointing": bool(step.checkpointing)}
        if step.dtype != asked.dtype:
            training["dtype"] = step.dtype
        if step.token_budget not in (None, asked.token_budget):
            training["token_budget"] = step.token_budget
        return self._record(recipe, training)[1]

    def _record(self, recipe: Recipe, training: Mapping[str, Any]) -> tuple[StepSettings, Recorded]:
        """Of a recipe whose section `training` has these settings."""
        length = recipe.data.max_length
        if length not in self._reads:
            self._reads[length] = self._read_or_assume(recipe)
        read = self._reads[length]
        known = recipe if isinstance(read, str) else read.recipe
        changed = replace(
            known, training=replace(known.training, **training), settings=recipe.settings
        )
        if isinstance(read, str):
            settings, recorded = _record_sizes(changed, self._devices)
            return settings, replace(recorded, assumed=read)
        return _record_data(replace(read, recipe=changed), self._devices, self._log)

    def _read_or_assume(self, recipe: Recipe) -> _Read | str:
        """Or what stands in for what cannot be read, and why."""
        try:
            return _read(recipe, self._log)
        except FormatError as error:
            assumed = (
                f"Planned for rows as long as the recipe allows, and the base's own loss: {error}"
            )
            self._log(assumed)
            return assumed


def _read(recipe: Recipe, log: Log) -> _Read:
    recipe = settled(recipe, log)
    table = split(recipe.data, log)["train"]
    tokenizer, task = prepare(recipe, table)
    return _Read(recipe, tokenizer, task, encode(task, tokenizer, table, "train", log)[0])


def _record_data(read: _Read, devices: StepSettings, log: Log) -> tuple[StepSettings, Recorded]:
    recipe, encoded = read.recipe, {"train": read.train}
    model = model_on_meta(recipe, read.task)
    if too_few_rows(model, read.tokenizer, encoded) is not None:
        model.resize_token_embeddings(len(read.tokenizer), mean_resizing=False)
    require_divisible(model, devices)
    mode = FakeTensorMode()
    model = fake_copy(model, mode)
    weights = linear_weights(model)
    with mode:
        report = adapt_model(recipe, model, head_names(model))
        frozen = quantisable(weights)
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
        step = record_largest_step(
            model,
            mode,
            trainer,
            recipe.training,
            row_lengths(trainer),
            shares=_shares(devices),
            quantisable=frozen,
        )
    settings = _settings(recipe, step.rows, step.shape, devices, passes_of(trainer.consistency))
    with mode:
        return settings, Recorded.of(model, settings, report, step.recording, frozen)


def _record_sizes(recipe: Recipe, devices: StepSettings) -> tuple[StepSettings, Recorded]:
    config = bases.config_of(recipe.base, recipe.revision)
    if recipe.training.base_dropout == "off":
        config.update(dropout_off(config))
    model = bases.model_on_meta(config, recipe.base)
    length = _longest(recipe, position_limit(model))
    rows = math.ceil((recipe.training.total_batch or MOST_BATCH) / _shares(devices))
    most = max(1, recipe.training.token_budget // length)
    settings = _settings(recipe, rows, (min(rows, most), length), devices)
    return settings, record(model, settings)


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


def _shares(devices: StepSettings) -> int:
    """How many devices the rows of a step are divided over."""
    return devices.devices if PARALLELS[devices.parallelism].divides_rows else 1


def _settings(
    recipe: Recipe, rows: int, shape: tuple[int, ...], devices: StepSettings, passes: int = 1
) -> StepSettings:
    """Of a step of `rows` rows whose largest micro-batch has this shape."""
    training = recipe.training
    return replace(
        devices,
        method=recipe.method,
        config=recipe.method_config,
        batch=rows * math.prod(shape[1:-1]),
        length=shape[-1],
        dtype=resolve_dtype(training.dtype),
        checkpointing=training.gradient_checkpointing,
        token_budget=math.prod(shape) * passes,
        passes=passes,
        max_grad_norm=training.max_grad_norm,
    )
