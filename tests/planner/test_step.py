"""What a recorded step holds on to, and what not."""

from __future__ import annotations

import torch
from torch import nn

from lorakit.planner.step import record_step


def test_output_that_its_own_graph_keeps_dies_with_it():
    """tanh saves its output; of the first step's nothing is alive when the second begins."""
    model, x = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.ones(4, 8)

    def loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        model(batch["x"])  # an output that no backward reaches
        return model(batch["x"]).sum()

    events = record_step(model, {"x": x}, torch.optim.SGD(model.parameters()), loss).events
    weights = sum(p.nbytes for p in model.parameters())
    assert sum(event.change for event in events if not event.phase) == weights + x.nbytes
