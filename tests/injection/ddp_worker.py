"""One of two processes that train an adapted model together: `python -m ... RANK DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import lorakit as lora

WORLD = 2


def model() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6), nn.Linear(6, 3))
    fields = {"target_modules": ["0", "2"], "modules_to_save": ["3"], "bias": "lora_only"}
    lora.inject(net, lora.LoraConfig(r=2, init_lora_weights=False, **fields))
    return net


def batch() -> Tensor:
    return torch.linspace(-1, 1, 8 * 6).reshape(8, 6).sin()


def step(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One optimizer step; the gradients it took, by name."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(x).square().mean().backward()
    optimizer.step()
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {name.removeprefix("module."): grad for name, grad in found.items()}


def main(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    address = f"file://{directory / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=WORLD)
    net = model()
    share = batch()[rank::WORLD]
    gradients = step(DistributedDataParallel(net), share)
    torch.save((gradients, net.state_dict()), directory / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
