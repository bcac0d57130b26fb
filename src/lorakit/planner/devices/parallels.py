"""The kinds of parallelism that are planned, by the names that transformers and accelerate use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorakit.planner.devices.ddp import ddp
from lorakit.planner.devices.division import Division, Sharing
from lorakit.planner.devices.fsdp import fsdp
from lorakit.planner.devices.tp import tp, tp_problems


def _none(_: Any, __: int) -> list[str]:
    return []


@dataclass(frozen=True)
class Parallel:
    """A kind of parallelism."""

    divide: Callable[[nn.Module, Sharing], Division]
    """From the prepared model."""
    problems: Callable[[Any, int], list[str]] = _none
    """Why this model cannot be divided over so many devices."""
    divides_rows: bool = True
    """Whether each device has rows of its own."""


PARALLELS = {
    "ddp": Parallel(ddp),
    "fsdp": Parallel(fsdp),
    "tp": Parallel(tp, tp_problems, divides_rows=False),
}
"""By name."""
