"""One training step, recorded: forward, loss, backward, clipping, optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from lorakit.layers.recomputed import Watcher
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
    """The events and the work of a training step on this micro-batch, as all but the first are.

    So the optimizer has its state, of what gets a gradient. Events before the step are in the phase
    "": the bytes that are alive when it begins are their sum. `accumulates`: it is the last of
    several micro-batches, so the gradients of the others are there when it begins. Where
    `quantisable` weights are read is recorded too.

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
    with _modules(model, recorder), gradients as received, recorder, no_readers:
        make_state(trained, optimizer)
        for parameter in trained:
            state, gradient = _made(parameter, optimizer)
            recorder.mark(state, STATE, owners[id(parameter)])
            recorder.mark(gradient, GRADIENTS, owners[id(parameter)])
        if not accumulates:
            optimizer.zero_grad()
        del gradient
        recorder.phase = PHASES[0]
        with torch.autograd.graph.saved_tensors_hooks(_keeper(recorder), _same):
            value = loss(model, batch)
        recorder.phase = PHASES[1]
        value.backward()
        del value
        for parameter in set(trained) - received:  # nor would these in any other step
            recorder.forget(chain(*_made(parameter, optimizer)))
            parameter.grad = None
        recorder.phase = PHASES[2]
        if max_norm is not None:
            clip_grad_norm_(trained, max_norm)
        recorder.phase = PHASES[3]
        optimizer.step()
    events = list(recorder.events)  # what dies later is not in the step
    return Recording(events, recorder.work)


def make_state(trained: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer make its state, by a step with gradients as large as what trains."""
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _made(parameter: Tensor, optimizer: torch.optim.Optimizer) -> tuple[list[Tensor], list[Tensor]]:
    """What `make_state` made for one parameter: state, and the gradient, if it is still there."""
    gradient = parameter.grad
    state = list(_tensors_in(optimizer.state[parameter]))
    return state, [] if gradient is None else [gradient]


def _keeper(recorder: Recorder) -> Watcher:
    def keep(tensor: Tensor) -> Tensor:
        recorder.mark([tensor], ACTIVATIONS)
        return tensor.detach()  # an output that its own graph keeps would outlive the step

    return Watcher(keep)


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
) -> Iterator[set[Tensor]]:
    """Inside, gradients are marked; gives the parameters that got one."""
    received: set[Tensor] = set()

    def accumulated(parameter: Tensor) -> None:
        received.add(parameter)
        if parameter.grad is not None:
            recorder.mark([parameter.grad], GRADIENTS, owners[id(parameter)])

    handles = [p.register_post_accumulate_grad_hook(accumulated) for p in trained]
    try:
        yield received
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
