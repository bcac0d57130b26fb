"""Whether a run is compiled: `training.compile`, and what `auto` makes of it.

`auto` measures and never guesses a gain: whether compiled code is faster depends on model, dtype
and machine (`benchmarks/LOG.md`). At the start of a run the micro-batches of its first step are
computed uncompiled, in s seconds, so that about `steps * s` is left. If a twentieth of that pays
for the compilation, as estimated from the number of modules, they are compiled and timed again, and
the faster way is kept. So a run loses about a twentieth of its time at most, and a short one loses
two steps.

A run that is resumed goes on as it was begun: the choice is in its checkpoints. Otherwise rounding
would differ from that of an uninterrupted run. Several processes decide together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Literal

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments
from transformers.trainer_callback import ExportableState

from lorakit.errors import TrainingError
from lorakit.models.processes import total
from lorakit.training.compilation import Compilation
from lorakit.training.substitute import Batch, without_trace

Choice = Literal["auto", "on", "off"]

SHARE_AT_RISK = 1 / 20
"""Of the time that remains, what `auto` spends to find out whether compiled code is faster."""
SECONDS_PER_MODULE = 1.0
"""Of a compilation, for each module with weights; MiniLM took 0.8 on two busy CPU cores."""


class CompileChoice(TrainerCallback, ExportableState):
    """What a run has chosen, None before; saved in its checkpoints."""

    def __init__(self) -> None:
        self.compiled: bool | None = None

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"compiled": self.compiled}}


class AtTrainBegin(TrainerCallback):
    """Calls a function with the trainer's state when training begins."""

    def __init__(self, action: Callable[[TrainerState], None]) -> None:
        self.action = action

    def on_train_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.action(state)


def choose(
    choice: Choice,
    compilation: Compilation,
    batches: Sequence[Batch],
    steps: int,
    before: bool | None = None,
) -> bool:
    """Whether to compile a run of which `steps` like this one, of these micro-batches, are left.

    `before`: what it had chosen when it was interrupted. If it says yes, they have been compiled.
    Raises TrainingError where `choice` is on and the model cannot be compiled here.
    """
    if before is False:
        return False
    model, log = compilation.model, compilation.log
    measures = choice == "auto" and before is None
    plain = _seconds(compilation, batches, compiled=False)
    left, least = plain * steps, estimated_seconds(model) / SHARE_AT_RISK
    if measures and left < least:
        log(
            f"training.compile auto: uncompiled, as {steps} steps of {plain:.2g} s are left, "
            f"{left:,.0f} s, and trying pays from {least:,.0f} s on"
        )
        return False
    try:
        compiled = _seconds(compilation, batches, compiled=True)
    except RuntimeError as error:
        _report(choice, error, log, before)
        return False
    log(f"a compiled step takes {compiled / plain:.2f} of the time of an uncompiled one")
    if measures and compiled >= plain:
        log("training.compile auto: uncompiled, which is faster")
        return False
    return True


def estimated_seconds(model: nn.Module) -> float:
    """What compiling it may take: so long for each module with weights of its own."""
    own = (any(True for _ in m.parameters(recurse=False)) for m in model.modules())
    return SECONDS_PER_MODULE * sum(own)


def _seconds(compilation: Compilation, batches: Sequence[Batch], compiled: bool) -> float:
    """Of forward and backward of these micro-batches the second time, the mean of the processes.

    Raises RuntimeError in all of them if it was raised in one.
    """
    device = next(compilation.model.parameters()).device
    seconds, failure = 0.0, None
    try:
        for _ in range(2):
            seconds = _timed(compilation, batches, compiled)
    except RuntimeError as error:  # of torch's compilers; uncompiled the same has just run
        failure = error
    failed = total(float(failure is not None), device)  # the others wait here
    if failure is not None:
        raise failure
    if failed:
        raise RuntimeError("another process failed, and says why")
    return total(seconds, device) / total(1.0, device)


def _timed(compilation: Compilation, batches: Sequence[Batch], compiled: bool) -> float:
    started = perf_counter()
    with without_trace(compilation.model):
        for batch in batches:
            loss = compilation.trial(batch, compiled)
    float(loss)  # waits for the device
    return perf_counter() - started


def _report(
    choice: Choice, error: RuntimeError, log: Callable[[str], None], before: bool | None
) -> None:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:2])  # which part failed, and how
    if choice == "auto":
        since = " from here on (other rounding than compiled, as it was begun)" if before else ""
        log(f"training.compile auto: uncompiled{since}, as torch.compile failed: {reason}")
        return
    raise TrainingError(
        f"training.compile is on, and this model cannot be compiled here: {reason}. Set "
        "training.compile: off, or install what is missing (a C++ compiler for a CPU, Triton for "
        "a GPU)."
    ) from error
