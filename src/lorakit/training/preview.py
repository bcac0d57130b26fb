"""What a run would train, on what, for how long: all that is known before it, nothing written.

It goes the way of `train` up to the trainer, in a directory that is deleted, and takes a few real
steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, set_seed
from transformers import TrainingArguments as Arguments

from lorakit.foreign_files import local_path
from lorakit.models.dtypes import resolve_dtype
from lorakit.recipe.data_preview import DataPreview, preview_examples
from lorakit.recipe.schema import Recipe
from lorakit.recipe.settled import settled
from lorakit.runs.claim import require_own
from lorakit.training.callbacks import ProgressBar
from lorakit.training.memory import accelerator_peak, peak_memory
from lorakit.training.preparation import Prepared, Workplace, prepare_run
from lorakit.training.trackers import Trackers, trackers
from lorakit.training.trainer import LoraTrainer

MEASURED_STEPS = 2


@dataclass(frozen=True)
class Measured:
    """What a few steps of the run showed."""

    step_seconds: tuple[float, ...]
    """Of each step but the first, which also sets up what all need."""
    peak_memory_bytes: int
    memory_of: str
    """Whose memory that is: the accelerator's, or this process's."""
    device: str


@dataclass(frozen=True)
class Preview:
    """A run before it is trained."""

    data: DataPreview
    base: str
    method: str
    report: str
    """What of the model trains, as a table."""
    parameters: int
    trainable_parameters: int
    dtype: str
    total_batch: int
    epochs: float
    steps_per_epoch: int
    steps: int
    measured: Measured

    @property
    def training_seconds(self) -> float:
        """An estimate for all steps, without evaluation."""
        return self.steps * fmean(self.measured.step_seconds)


def preview(recipe: Recipe) -> Preview:
    """What `train` would do with the recipe; raises what it would raise before the third step."""
    process = PartialState(cpu=not torch.accelerator.is_available())
    notes: list[str] = []
    recipe = settled(recipe, notes.append)
    require_own(local_path(recipe.output), recipe)
    with TemporaryDirectory() as scratch, trackers(recipe.training.report_to, Path(scratch)):
        place = Workplace(Path(scratch), process, _nothing, Trackers(), notes.append)
        set_seed(recipe.training.seed)
        run = prepare_run(recipe, place)
        measured = _measure(run.trainer)
    return _preview(run, measured, notes)


def _preview(run: Prepared, measured: Measured, notes: list[str]) -> Preview:
    data = preview_examples(
        run.recipe.data, run.tables, run.task, run.tokenizer, run.encoded, run.truncated
    )
    report, trainer = str(run.report), run.trainer
    steps_per_epoch = len(trainer.get_train_dataloader())
    return Preview(
        data=replace(data, notes=tuple(note for note in notes if note != report)),
        base=run.recipe.base,
        method=run.recipe.method,
        report=report,
        parameters=run.report.total_parameters,
        trainable_parameters=run.report.trainable_parameters,
        dtype=resolve_dtype(run.recipe.training.dtype),
        total_batch=trainer.total_batch,
        epochs=round(trainer.state.max_steps / steps_per_epoch, 2),
        steps_per_epoch=steps_per_epoch,
        steps=trainer.state.max_steps,
        measured=measured,
    )


def _measure(trainer: LoraTrainer) -> Measured:
    """Take the first steps of the run, with no report of them to anyone."""
    trainer.remove_callback(ProgressBar)
    clock = _Clock()
    trainer.add_callback(clock)
    if torch.accelerator.is_available():
        torch.accelerator.reset_peak_memory_stats()
    trainer.train_from(None)
    seconds = tuple(clock.seconds[1:] or clock.seconds)
    memory_of = "accelerator" if accelerator_peak() else "process"
    return Measured(seconds, peak_memory(), memory_of, str(trainer.args.device))


class _Clock(TrainerCallback):
    """Times the first steps, from end to end, then ends the training; nothing is saved."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last: float | None = None

    def on_step_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.last = _now() if self.last is None else self.last

    def on_step_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        assert self.last is not None
        now = _now()
        self.seconds.append(now - self.last)
        self.last = now
        control.should_save = control.should_evaluate = control.should_log = False
        control.should_training_stop |= len(self.seconds) > MEASURED_STEPS
        return control


def _now() -> float:
    """The time when all that was begun is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _nothing() -> None:
    """The check of a directory that is nobody else's."""
