"""A real training step, its memory counted by torch's own allocator events."""

from __future__ import annotations

import torch

from benchmarks.allocations import held, highest
from lorakit.planner.inputs import fake_inputs, loss_in
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.planning import prepare


def measured_peak(model, settings, change=lambda model: None) -> int:
    """The most bytes that torch had allocated at once in the second step, weights included.

    The prepared model is changed by `change` before the first.
    """
    prepare(model, settings)
    change(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OPTIMIZERS[settings.optimizer](trained)
    loss = loss_in(settings.dtype)
    rows = [settings.rows] * (settings.batch // settings.rows)
    rows += [rest] if (rest := settings.batch % settings.rows) else []
    batches = [fake_inputs(model, count, settings.length) for count in rows]

    def step():
        for batch in batches:
            loss(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    step()
    before = held([*model.parameters(), *model.buffers(), *batches[0].values(), *_state(optimizer)])
    return before + highest(step)


def _state(optimizer):
    for values in optimizer.state.values():
        yield from (value for value in values.values() if isinstance(value, torch.Tensor))
