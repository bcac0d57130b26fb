"""One of two processes that train a model together on gloo: `torchrun ... DIRECTORY`.

It writes what it holds of each cell, by category and at the peak of a step, to DIRECTORY/RANK.json.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.distributed import DistributedConfig

from benchmarks.allocations import highest
from lorakit.methods.blocks import stacks
from lorakit.planner.inputs import fake_inputs, loss_in
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.planning import prepare
from lorakit.planner.recording import BASE, GRADIENTS, STATE, TRAINED
from lorakit.planner.settings import StepSettings
from lorakit.planner.step import state_tensors
from tests.planner.devices.models import SMALL, cells


def _ddp(settings: StepSettings, directory: Path) -> nn.Module:
    return DistributedDataParallel(_prepared(settings))


def _fsdp(settings: StepSettings, directory: Path) -> nn.Module:
    model = _prepared(settings)
    for block in (block for stack in stacks(model) for block in stack.blocks):
        fully_shard(block.module, reshard_after_forward=settings.reshard_after_forward)
    return fully_shard(model)


def _tp(settings: StepSettings, directory: Path) -> nn.Module:
    model = AutoModelForCausalLM.from_pretrained(
        directory, distributed_config=DistributedConfig(tp_size=2, tp_plan="auto")
    )
    return model.train()


def _plain(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def _prepared(settings: StepSettings) -> nn.Module:
    model = LlamaForCausalLM(SMALL)
    prepare(model, settings)
    return model


MAKE = {"ddp": _ddp, "fsdp": _fsdp, "tp": _tp}


def _held(tensors) -> int:
    local = (t.to_local() if isinstance(t, DTensor) else t for t in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in local)


def measured(settings: StepSettings, directory: Path) -> dict[str, int]:
    """Bytes that this process holds of a training."""
    model = MAKE[settings.parallel](settings, directory)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    optimizer = OPTIMIZERS[settings.optimizer](trained)
    batch = fake_inputs(_plain(model), settings.batch, settings.length)
    loss = loss_in(settings.dtype)
    gradients = []

    def step() -> None:
        loss(model, batch).backward()
        gradients.append(_held(p.grad for p in trained))
        optimizer.step()
        optimizer.zero_grad()

    step()
    found = {
        BASE: _held([*frozen, *model.buffers()]),
        TRAINED: _held(trained),
        STATE: _held(state_tensors(optimizer)),
    }
    # DDP makes its buckets in this step and none later. In single steps Python holds what is in a
    # cycle, and gloo's threads what a collective has done with, a little longer.
    steps = 1 if settings.parallel == "ddp" else 3
    gc.collect()
    rise = min(highest(step) for _ in range(steps))
    peak = sum(found.values()) + _held(batch.values()) + rise
    return found | {GRADIENTS: gradients[0], "peak": peak}


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    if rank == 0:
        LlamaForCausalLM(SMALL).save_pretrained(directory)
    torch.distributed.barrier()
    found = {name: measured(settings, directory) for name, settings in cells().items()}
    (directory / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
