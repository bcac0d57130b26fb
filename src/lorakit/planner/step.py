"""One training step, recorded: forward, loss, backward, clipping, optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lorakit.planner.recording import (
    ACTIVATIONS,
    BASE,
    GRADIENTS,
    STATE,
    TRAINED,
    Event,
    LinearWeight,
    Recorder,
)

PHASES = ("forward", "backward", "clipping", "optimizer")
Loss = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


def record_step(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    max_norm: float | None = 1.0,
    *,
    accumulates: bool = False,
    quantisable: Mapping[Tensor, LinearWeight] | None = None,
    seconds: float = math.inf,
) -> list[Event]:
    """The events of the second of two training steps on this micro-batch.

    The second is what all later ones are like: the optimizer has its state. Events before it are
    in the phase "", so the bytes that are alive when it begins are their sum. `accumulates`: it is
    the last of several micro-batches, so the gradients of the others are there when it begins.
    Where `quantisable` weights are read is recorded too.

    Raises PlanError for a step that needs values, or whose recording takes longer than `seconds`.
    """
    recorder = Recorder(seconds)
    trained = [p for p in model.parameters() if p.requires_grad]
    recorder.mark(trained, TRAINED)
    recorder.mark((*model.parameters(), *model.buffers()), BASE)
    recorder.mark(batch.values(), ACTIVATIONS)
    recorder.quantisable(quantisable or {})
    with _modules(model, recorder), _gradients(trained, recorder), recorder:
        for phases in (("",) * 4, PHASES):
            recorder.phase = phases[0]
            with torch.autograd.graph.saved_tensors_hooks(_keeper(recorder), _same):
                value = loss(model, batch)
            recorder.phase = phases[1]
            value.backward()
            del value
            recorder.phase = phases[2]
            if max_norm is not None:
                clip_grad_norm_(trained, max_norm)
            recorder.phase = phases[3]
            optimizer.step()
            recorder.mark(state_tensors(optimizer), STATE)
            if not accumulates:
                optimizer.zero_grad()
    return recorder.events


def _keeper(recorder: Recorder) -> Callable[[Tensor], Tensor]:
    def keep(tensor: Tensor) -> Tensor:
        recorder.mark([tensor], ACTIVATIONS)
        return tensor.detach()  # an output that its own graph keeps would outlive the step

    return keep


def _same(tensor: Tensor) -> Tensor:
    return tensor


def state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """The tensors that an optimizer keeps from step to step."""
    for values in optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, Tensor))


@contextmanager
def _gradients(trained: Sequence[Tensor], recorder: Recorder) -> Iterator[None]:
    def accumulated(parameter: Tensor) -> None:
        if parameter.grad is not None:
            recorder.mark([parameter.grad], GRADIENTS)

    handles = [p.register_post_accumulate_grad_hook(accumulated) for p in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _modules(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Inside, the recorder knows the module whose forward runs."""
    stack: list[str] = []
    handles = []
    for name, module in model.named_modules():

        def enter(_: nn.Module, __: Any, name: str = name) -> None:
            stack.append(recorder.module)
            recorder.module = name

        def leave(*_: Any) -> None:
            recorder.module = stack.pop()

        handles.append(module.register_forward_pre_hook(enter, prepend=True))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
