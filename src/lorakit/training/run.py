"""From a recipe to a run directory: adapter, recipe, metrics, predictions, learning curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import PartialState
from transformers import set_seed

from lorakit.errors import StateError
from lorakit.foreign_files import local_path
from lorakit.recipe.data import Log
from lorakit.recipe.schema import Recipe
from lorakit.recipe.settled import settled
from lorakit.runs.checkpoints import newest_whole
from lorakit.runs.claim import claimed, require_own
from lorakit.runs.directory import ADAPTER, CHECKPOINTS, RunResult, missing_adapter, read_result
from lorakit.training.completion import complete_run
from lorakit.training.memory_plan import planned_peak
from lorakit.training.preparation import Prepared, Workplace, prepare_run
from lorakit.training.remarks import baseline_of
from lorakit.training.trackers import trackers
from lorakit.training.trainer import LoraTrainer


def _alone(run: Prepared) -> None:
    """Nothing is done with a run that is trained by itself."""


def train(
    recipe: Recipe, log: Log = print, *, prepared: Callable[[Prepared], None] = _alone
) -> RunResult:
    """Train by `recipe`; resumes an interrupted run, and returns the result of a finished one.

    `log` gets each line that is said, and `prepared` the run before its training begins. Under
    `torchrun` every process trains on its share, and the first one writes and logs.

    Raises ConfigError, FormatError or MismatchError for settings, files or a base that do not fit,
    StateError if the output holds another recipe's run or a finished one without its adapter,
    SaveError if another process writes it or it can no longer be written, TrainingError if a
    trainable tensor does not change or a loss is not finite.
    """
    process = PartialState(cpu=not torch.accelerator.is_available())
    log = log if process.is_main_process else _silent
    output = local_path(recipe.output)
    with process.main_process_first():
        recipe = settled(recipe, log)
        require_own(output, recipe)
        result = read_result(output, log)
    if result is not None:
        if not (output / ADAPTER).is_dir():
            raise StateError(missing_adapter(output))
        log(f"The run in {output} is finished already; its result:")
        return result
    held = claimed(output, recipe) if process.is_main_process else nullcontext(_nothing)
    with (
        trackers(recipe.training.report_to, output) as reported,
        held as require_held,
        determinism(recipe.training.deterministic),
    ):
        place = Workplace(output, process, require_held, reported, log)
        set_seed(recipe.training.seed)
        run = prepare_run(recipe, place)
        prepared(run)
        return _train(run, place)


def _train(run: Prepared, place: Workplace) -> RunResult:
    planned = planned_peak(run, place.log)
    baseline = baseline_of(run)
    _fit(run.trainer, place)
    return complete_run(run, baseline, planned, place)


def _fit(trainer: LoraTrainer, place: Workplace) -> None:
    """Train from the newest whole checkpoint, or from the beginning."""
    place.process.wait_for_everyone()  # the first has said what the run began with
    checkpoint = newest_whole(place.output / CHECKPOINTS, place.log)
    if checkpoint is not None:
        place.log(f"resuming from {checkpoint.path}")
    place.process.wait_for_everyone()  # all have seen the same checkpoints before one writes
    trainer.train_from(checkpoint)


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
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
