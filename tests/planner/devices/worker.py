"""One of two processes that train a model together on gloo: `python -m ... RANK DIRECTORY`.

It writes what it holds of each cell, by category and at the peak of a step, to DIRECTORY/RANK.json.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from benchmarks.allocations import held, highest
from lorakit.methods.blocks import stacks
from lorakit.planner.bases import model_on_meta
from lorakit.planner.inputs import fake_inputs, loss_in
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.planning import prepare
from lorakit.planner.recording import BASE, GRADIENTS, STATE, TRAINED
from lorakit.planner.settings import StepSettings
from lorakit.planner.step import state_tensors
from tests.planner.devices.models import SMALL, cells


def _fsdp(reshard: bool, model: nn.Module) -> nn.Module:
    for block in (block for stack in stacks(model) for block in stack.blocks):
        fully_shard(block.module, reshard_after_forward=reshard)
    return fully_shard(model)


def _wrapper(settings: StepSettings):
    reshard = settings.reshard_after_forward
    return {"ddp": DistributedDataParallel, "fsdp": partial(_fsdp, reshard)}[settings.parallel]


def _held(tensors) -> int:
    return held(t.to_local() if isinstance(t, DTensor) else t for t in tensors)


def measured(settings: StepSettings) -> dict[str, int]:
    """Bytes that this process holds of a training."""
    model = type(model_on_meta(SMALL))(SMALL)
    prepare(model, settings)
    wrapped = _wrapper(settings)(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    optimizer = OPTIMIZERS[settings.optimizer](trained)
    batch = fake_inputs(model, settings.batch, settings.length)
    loss = loss_in(settings.dtype)
    gradients = []

    def step() -> None:
        loss(wrapped, batch).backward()
        gradients.append(_held(p.grad for p in trained))
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = {
        BASE: _held([*frozen, *model.buffers()]),
        TRAINED: _held(trained),
        STATE: _held(state_tensors(optimizer)),
    }
    peak = sum(found.values()) + _held(batch.values()) + highest(step)
    return found | {GRADIENTS: gradients[0], "peak": peak}


def main(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    address = f"file://{directory / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=2)
    found = {name: measured(settings) for name, settings in cells().items()}
    (directory / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
