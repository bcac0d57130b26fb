"""The memory of a run's steps, predicted before the first; and what to do if it is too much.

Planned is the largest micro-batch that the token budget and the data allow, with the run's own
loss, by a step on tensors without memory (`lorakit.planner`). A run goes on without a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from lorakit.errors import PlanError
from lorakit.planner.checkpointing import can_checkpoint
from lorakit.planner.fakes import fake_copy
from lorakit.planner.recording import BASE, TRAINED
from lorakit.planner.timeline import Timeline, timeline
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.data import Log
from lorakit.recipe.training_config import TrainingConfig
from lorakit.text import size_text
from lorakit.training.largest_step import LargestStep, record_largest_step, row_lengths
from lorakit.training.memory import available_memory
from lorakit.training.memory_advice import Settings, advice, untried
from lorakit.training.preparation import Prepared
from lorakit.training.trainer import passes_of

_SECONDS = 10.0


def planned_peak(run: Prepared, log: Log) -> int | None:
    """The bytes of tensors at the peak of a step; logs them, and that they are not there.

    None, and the reason in the log, where they cannot be predicted; of a run that computes on a
    backbone of several runs nothing is said.
    """
    if run.trainer.shared is not None:
        return None
    try:
        lengths = row_lengths(run.trainer)
        step = _record(run, run.recipe.training, lengths, _SECONDS)
    except PlanError as error:
        log("memory: not predicted. " + " ".join([error.headline, *error.problems[-1:]]))
        return None
    except Exception as error:  # a model's forward raises whatever it has against fake tensors
        log(f"memory: not predicted, as {_unrunnable(error)}")
        return None
    memory = timeline(step.recording.events)
    shape, peak = " x ".join(map(str, step.shape)), memory.peak.total
    log(f"memory: {size_text(peak)} predicted at the peak of a step, for {shape} tokens")
    needed, available = _beside_weights(memory), available_memory()
    if needed > available:
        log(
            f"memory: a step is predicted to need {size_text(needed)} beside the weights, and "
            f"{size_text(available)} are available; {_what_to_change(run, lengths, available)}"
        )
    return peak


def _what_to_change(run: Prepared, lengths: Sequence[int], available: int) -> str:
    """Planned for as many seconds as the step itself may take."""
    training, end = run.recipe.training, perf_counter() + _SECONDS
    longest = passes_of(run.trainer.consistency) * max(lengths)

    def needs(settings: Settings) -> int:
        token_budget, checkpointing = settings
        changed = replace(training, token_budget=token_budget, gradient_checkpointing=checkpointing)
        step = _record(run, changed, lengths, end - perf_counter())
        return _beside_weights(timeline(step.recording.events))

    try:
        return advice(needs, available, training, longest, can_checkpoint(run.model))
    except PlanError:  # it takes too long, or needs values
        return untried(training, can_checkpoint(run.model))
    except Exception as error:  # checkpointing raises whatever it has against fake tensors
        return f"{untried(training, can_checkpoint(run.model))}; not tried, as {_unrunnable(error)}"


def _record(
    run: Prepared, training: TrainingConfig, lengths: Sequence[int], seconds: float
) -> LargestStep:
    model = fake_copy(run.model, mode := FakeTensorMode())
    return record_largest_step(model, mode, run.trainer, training, lengths, seconds=seconds)


def _unrunnable(error: Exception) -> str:
    return f"a step cannot run without values: {type(error).__name__}: {error}"


def _beside_weights(memory: Timeline) -> int:
    """The weights are there already."""
    return memory.peak.total - memory.peak.bytes_by[BASE] - memory.peak.bytes_by[TRAINED]
