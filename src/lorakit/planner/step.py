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
    LinearWeight,
    Recorder,
    Recording,
)
from lorakit.planner.values import NoReaders

PHASES = ("forward", "backward", "clipping", "optimizer")
EACH_BATCH = PHASES[:2]
"""What is done for each micro-batch."""
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
) -> Recording:
    """The events and the work of the second of two training steps on this micro-batch.

    The second is what all later ones are like: the optimizer has its state. Events before it are
    in the phase "", so the bytes that are alive when it begins are their sum. `accumulates`: it is
    the last of several micro-batches, so the gradients of the others are there when it begins.
    Where `quantisable` weights are read is recorded too.

    Raises PlanError for a step that needs values, or whose recording takes longer than `seconds`.
    """
    recorder = Recorder(seconds)
    trained = [p for p in model.parameters() if p.requires_grad]
    owners = _owners(model)
    _mark_weights(model, recorder)
    recorder.mark(batch.values(), ACTIVATIONS)
    recorder.quantisable(quantisable or {})
    no_readers = NoReaders(recorder.needs_values)
    gradients = _gradients(trained, recorder, owners)
    with _modules(model, recorder), gradients, recorder, no_readers:
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
            for parameter, values in optimizer.state.items():
                recorder.mark(_tensors_in(values), STATE, owners[id(parameter)])
            if not accumulates:
                optimizer.zero_grad()
    return Recording(recorder.events, recorder.work)


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
        yield from _tensors_in(values)


def _tensors_in(values: Mapping[str, Any]) -> Iterator[Tensor]:
    return (value for value in values.values() if isinstance(value, Tensor))


def _owners(model: nn.Module) -> dict[int, str]:
    """The name of the module that has a parameter, by its id; the first of several."""
    return {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}


def _mark_weights(model: nn.Module, recorder: Recorder) -> None:
    for kind, trains in ((TRAINED, True), (BASE, False)):
        for name, module in model.named_modules():
            own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            recorder.mark((t for t in own if t.requires_grad is trains), kind, name)


@contextmanager
def _gradients(
    trained: Sequence[Tensor], recorder: Recorder, owners: Mapping[int, str]
) -> Iterator[None]:
    def accumulated(parameter: Tensor) -> None:
        if parameter.grad is not None:
            recorder.mark([parameter.grad], GRADIENTS, owners[id(parameter)])

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
