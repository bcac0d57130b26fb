"""What computes a model's micro-batches in its place: compiled code, or a shared backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]
Compute = Callable[[Any, Batch], Tensor]
"""(model, micro-batch) -> its loss."""


class Substitute(ABC):
    """In the place of a model, whose hooks are not called then."""

    def __init__(self, model: nn.Module, compute: Compute) -> None:
        self.model, self.compute = model, compute
        self._seen_by_hooks = False

    @abstractmethod
    def for_batch(self, batch: Batch) -> AbstractContextManager[Any]:
        """The model to compute with, for the forward and backward of this micro-batch inside."""

    def show_to_hooks(self, batch: Batch) -> None:
        """One forward of the model itself, the first time: `HealthCheck` learns from hooks which
        modules run."""
        if not self._seen_by_hooks:
            self._seen_by_hooks = True
            with without_trace(self.model), torch.no_grad():
                self.compute(self.model, batch)


@contextmanager
def without_trace(model: nn.Module) -> Iterator[None]:
    """Inside, a trial: gradients, random numbers and buffers are as before afterwards."""
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = torch.accelerator.current_accelerator(check_available=True)
    kind, indices = "cuda", []  # no device: the CPU's numbers alone
    if device is not None:
        kind, indices = device.type, [torch.accelerator.current_device_index()]
    for parameter in parameters:
        parameter.grad = None
    try:
        with torch.random.fork_rng(indices, device_type=kind):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
