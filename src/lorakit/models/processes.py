"""Gradients of several processes, summed after the last micro-batch of a step.

DistributedDataParallel expects one forward a step and the same tensors on every process. Here each
process has as many micro-batches as its lengths ask for, perhaps none in an epoch's last step, and
a tensor that no loss reached keeps `grad = None`, so that no optimizer moves it. So all gradients
travel together, once, with a flag for each tensor that says whether anyone has one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Output = TypeVar("Output")


def is_first_process() -> bool:
    """Whether this process logs and writes; known before the process group is initialized."""
    return os.environ.get("RANK", "0") == "0"


def total(value: float, device: torch.device) -> float:
    """The sum over all processes (all_reduce)."""
    if not _several():
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return float(tensor)


def sum_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Replace each gradient by its sum over all processes; returns the summed loss."""
    if not _several():
        return loss
    kept = [parameter for parameter in parameters if parameter.requires_grad]
    flags = [float(parameter.grad is not None) for parameter in kept]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in kept]
    head = torch.tensor([float(loss), *flags], device=loss.device)
    flat = torch.cat([head, *(grad.flatten() for grad in grads)])
    dist.all_reduce(flat)
    parts = flat.split([len(head), *(grad.numel() for grad in grads)])
    present = parts[0][1:].tolist()
    for parameter, part, someone in zip(kept, parts[1:], present, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if someone else None
    summed: Tensor = parts[0][0]
    return summed


def process_number() -> int:
    """The rank of this process; 0 without a process group."""
    return dist.get_rank() if _several() else 0


def share(size: int) -> range:
    """The indices, of `size` rows, that this process computes."""
    return range(process_number(), size, dist.get_world_size() if _several() else 1)


def gathered(parts: list[tuple[int, Output]]) -> list[tuple[int, Output]]:
    """The indexed outputs of all processes, on each of them (all_gather)."""
    if not _several():
        return parts
    everyone: list[list[tuple[int, Output]]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, parts)
    return [part for one in everyone for part in one]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
