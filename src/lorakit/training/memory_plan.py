"""The memory of a run's steps, predicted before the first; and what to do if it is too much.

Planned is the largest micro-batch that the token budget and the data allow, with the run's own
loss, by a step on tensors without memory (`lorakit.planner`). A run goes on without a prediction.
"""

from __future__ import annotations

from lorakit.errors import PlanError
from lorakit.models.dtypes import resolve_dtype
from lorakit.planner.fakes import fake_copy
from lorakit.planner.recording import BASE, TRAINED
from lorakit.planner.timeline import Timeline, timeline
from lorakit.private.torch_names import FakeTensorMode
from lorakit.recipe.data import Log
from lorakit.recipe.training_config import TrainingConfig
from lorakit.text import size_text
from lorakit.training.largest_step import record_largest_step
from lorakit.training.memory import available_memory
from lorakit.training.preparation import Prepared

_SECONDS = 10.0


def planned_peak(run: Prepared, log: Log) -> int | None:
    """The bytes of tensors at the peak of a step; logs them, and that they are not there.

    None, and the reason in the log, where they cannot be predicted; of a run that computes on a
    backbone of several runs nothing is said.
    """
    if run.trainer.shared is not None:
        return None
    try:
        model, training = fake_copy(run.model, mode := FakeTensorMode()), run.recipe.training
        step = record_largest_step(model, mode, run.trainer, training, _SECONDS)
    except PlanError as error:
        log("memory: not predicted. " + " ".join([error.headline, *error.problems[-1:]]))
        return None
    except Exception as error:  # a model's forward raises whatever it has against fake tensors
        log(f"memory: not predicted, as a step cannot run without values: {error}")
        return None
    memory = timeline(step.recording.events)
    shape, peak = " x ".join(map(str, step.shape)), memory.peak.total
    log(f"memory: {size_text(peak)} predicted at the peak of a step, for {shape} tokens")
    if warning := too_little(memory, available_memory(), training, step.shape[0]):
        log(warning)
    return peak


def too_little(memory: Timeline, available: int, training: TrainingConfig, rows: int) -> str | None:
    """What to change where a step needs more than is available; the weights are there already."""
    weights = memory.peak.bytes_by[BASE] + memory.peak.bytes_by[TRAINED]
    needed = memory.peak.total - weights
    if needed <= available:
        return None
    ways = {
        f"lower training.token_budget (now {training.token_budget})": rows > 1,
        "shorten rows by data.max_length": rows == 1,
        "set training.gradient_checkpointing to true": not training.gradient_checkpointing,
        "set training.dtype to bf16": resolve_dtype(training.dtype) == "fp32",
    }
    advice = ", or ".join(way for way, helps in ways.items() if helps)
    return (
        f"memory: a step is predicted to need {size_text(needed)} beside the weights, and "
        f"{size_text(available)} are available; {advice}"
    )
