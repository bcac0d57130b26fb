"""Callbacks, which work in any transformers Trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments

from lorakit.errors import TrainingError
from lorakit.injection.inspection.health import check_training, mark_training_start, recording_calls
from lorakit.runs.curve import FOLLOWED
from lorakit.surgery.wrappers import unwrapped

CHECKED_STEPS = 3


class HealthCheck(TrainerCallback):
    """Stops training if a trainable tensor has not changed after three optimizer steps.

    Steps with a learning rate of 0 do not count, nor do modules whose forward never ran. If every
    tensor has a gradient, the check waits until the end of the warmup, whose first steps can be too
    small to change a float32. Raises TrainingError that names the tensors.

    ``Trainer(..., callbacks=[HealthCheck()])``
    """

    def __init__(self) -> None:
        self.steps, self.due = 0, CHECKED_STEPS
        self.calls: Any = None
        self.called: set[str] = set()

    def on_train_begin(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_recording()
        model: nn.Module = kwargs["model"]
        mark_training_start(model)
        self.steps, self.due = 0, CHECKED_STEPS
        self.calls = recording_calls(model)
        self.called = self.calls.__enter__()

    def on_optimizer_step(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]
        rates = [group["lr"] for group in optimizer.param_groups]
        skipped = getattr(optimizer, "step_was_skipped", False)  # by fp16's loss scaling
        if self.calls is None or skipped or max(rates, default=0) == 0:
            return
        self.steps += 1
        if self.steps < self.due:
            return
        model = unwrapped(kwargs["model"])  # the check's names are those within wrappers
        check = check_training(model, frozenset(self.called))
        cut_off = any(model.get_parameter(name).grad is None for name in check.stuck)
        if check.stuck and not cut_off and state.global_step < args.warmup_steps:
            self.due *= 2
            return
        self._stop_recording()
        if check.stuck:
            raise TrainingError(
                f"After {self.steps} optimizer steps, {len(check.stuck)} of {check.trainable} "
                "trainable tensors have not changed (training.check: off turns this check off):",
                [f"{name}: {why}" for name, why in check.stuck.items()],
            )

    def on_train_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._stop_recording()

    def _stop_recording(self) -> None:
        if self.calls is not None:
            self.calls.__exit__(None, None, None)
            self.calls = None


class BeforeSaving(TrainerCallback):
    """Calls a check before every checkpoint; an error in it ends the run."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_step_end(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_save:
            self.check()


class ProgressBar(ProgressCallback):
    """transformers' progress bars with the last metrics behind them, instead of a line for each."""

    def on_log(
        self,
        args: Arguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        bar: Any = self.training_bar
        if state.is_world_process_zero and bar is not None:
            bar.set_postfix_str(format_metrics(logs or {}))


class ProgressLines(TrainerCallback):
    """Without a terminal: one line of metrics at every checkpoint."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self.log = log

    def on_save(
        self, args: Arguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            numbers: dict[str, Any] = {}
            for entry in state.log_history:
                numbers |= entry
            self.log(f"step {state.global_step} of {state.max_steps}  {format_metrics(numbers)}")


def progress(log: Callable[[str], None]) -> TrainerCallback:
    """Progress bars on a terminal, else lines."""
    return ProgressBar() if sys.stderr.isatty() else ProgressLines(log)


def format_metrics(numbers: dict[str, Any]) -> str:
    """The main metrics of a log entry, as text.

    >>> format_metrics({"loss": 0.51234, "eval_accuracy": 0.5, "epoch": 1})
    'loss 0.5123, validation accuracy 0.5'
    """
    followed = {
        name.replace("eval_", "validation "): value
        for name, value in numbers.items()
        if name in ("loss", *(f"eval_{metric}" for metric in FOLLOWED))
    }
    return ", ".join(f"{name} {value:.4g}" for name, value in followed.items())
