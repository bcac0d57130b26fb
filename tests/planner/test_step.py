"""What a recorded step holds on to, and what not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorakit.planner.recording import GRADIENTS, STATE
from lorakit.planner.step import record_step
from lorakit.planner.timeline import moments


def test_output_that_its_own_graph_keeps_dies_with_it():
    """tanh saves its output; nothing of it is alive when the step is over."""
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.ones(4, 8)

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        model(batch["x"])  # an output that no backward reaches
        return model(batch["x"]).sum()

    events = record_step(model, {"x": x}, torch.optim.SGD(model.parameters()), loss).events
    weights = sum(p.nbytes for p in model.parameters())
    assert sum(event.change for event in events if not event.phase) == weights + x.nbytes
    gradients = weights
    assert sum(event.change for event in events) == weights + x.nbytes + gradients


@pytest.mark.parametrize("accumulates", [False, True])
def test_what_gets_no_gradient_has_no_state(accumulates):
    model = nn.ModuleDict({"linear": nn.Linear(8, 4), "unused": nn.Linear(256, 256)})
    recording = record_step(
        model,
        {"x": torch.zeros(2, 8)},
        torch.optim.AdamW(model.parameters()),
        lambda model, batch: model["linear"](batch["x"]).sum(),
        accumulates=accumulates,
    )
    live = [point.bytes_by for point in moments(recording.events)]
    gradients = sum(p.nbytes for p in model["linear"].parameters())
    steps = 2 * 4  # a counter for each parameter
    assert {point[STATE] for point in live} == {2 * gradients + steps}
    assert max(point[GRADIENTS] for point in live) == gradients
    assert min(point[GRADIENTS] for point in live) == (gradients if accumulates else 0)
