"""A training step whose model torch.compile has translated, and the seconds that this took."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.training_step import step


def compiled_step(
    model: nn.Module, ids: Tensor, backend: str = "inductor"
) -> tuple[Callable[[], object], float]:
    """The step, compiled in place, and the seconds of its first call: forward and backward.

    What the step does once, without gradients, to know the shape of the output, stays eager.
    """
    run = step(model, ids)
    model.compile(backend=backend)
    started = perf_counter()
    run()
    if ids.device.type != "cpu":
        torch.accelerator.synchronize()
    return run, perf_counter() - started
