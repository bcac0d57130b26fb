"""How a kind of parallelism divides a training step over devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorakit.planner.recording import Block
from lorakit.planner.timeline import Point


@dataclass(frozen=True)
class Sharing:
    """What is known of devices that do a step together."""

    devices: int
    tokens: int
    """Of a micro-batch, on each device."""
    reshard_after_forward: bool = True
    """Whether gathered weights are freed after the forward of their block."""


@dataclass(frozen=True)
class Formula:
    """One rule of a division, in words, and who says so."""

    text: str
    source: str


def _whole(block: Block) -> int:
    return block.nbytes


def _none(_: Point) -> int:
    return 0


@dataclass(frozen=True)
class Division:
    """What the device that holds most has of a step that one device would do alone."""

    formulas: tuple[Formula, ...]
    local_shape: Callable[[str, Tensor], Sequence[int]]
    """What a device keeps of the parameter of this name; its gradient and state are as large."""
    local_bytes: Callable[[Block], int] = _whole
    """Of an activation, or of what an operation needs for a moment."""
    communication: Callable[[Point], int] = _none
    """Bytes of buffers that one device does not need, at a moment of its step."""


def divided(shape: Sequence[int], dim: int, devices: int) -> list[int]:
    """The largest part of a tensor that is cut along a dimension, as torch.chunk cuts.

    >>> divided((50257, 768), 0, 8), divided((3072,), -1, 8)
    ([6283, 768], [384])
    """
    part = list(shape)
    part[dim] = math.ceil(part[dim] / devices)
    return part
