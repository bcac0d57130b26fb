"""The memory of one of several devices: the recorded step of one, with each byte divided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lorakit.planner.devices.division import Division, Formula, Sharing
from lorakit.planner.devices.parallels import PARALLELS
from lorakit.planner.formula import formula
from lorakit.planner.optimizers import OPTIMIZERS
from lorakit.planner.recording import ACTIVATIONS, GRADIENTS, TEMPORARY, TRAINED, Event
from lorakit.planner.settings import StepSettings
from lorakit.planner.timeline import Point, moments

COMMUNICATION = "communication"
"""The category of what only several devices need."""
_UPDATE = ("clipping", "optimizer")
"""The phases that compute with gradients and weights, not with activations."""


@dataclass(frozen=True)
class DevicePlan:
    """What the fullest of several devices holds at the peak of a step, by formula."""

    devices: int
    parallel: str
    """The name of a kind of parallelism."""
    peak: Point
    formulas: tuple[Formula, ...]

    @property
    def peak_bytes(self) -> int:
        """The most bytes that live at once."""
        return self.peak.total

    @property
    def bytes_by(self) -> dict[str, int]:
        """The bytes at the peak by what they are for; buffers of collectives too."""
        return dict(self.peak.bytes_by)

    @property
    def headline(self) -> str:
        """What the bytes are, in words."""
        return f"On each of {self.devices} devices with {self.parallel}, by formula:"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "by": "formula",
            "devices": self.devices,
            "parallel": self.parallel,
            "peak_bytes": self.peak_bytes,
            "peak_phase": self.peak.phase,
            "bytes_by": self.bytes_by,
            "formulas": [{"text": one.text, "source": one.source} for one in self.formulas],
        }


def plan_device(
    model: nn.Module, settings: StepSettings, events: Sequence[Event]
) -> DevicePlan | None:
    """A device's part of a recorded step of this prepared fake model; None for one device alone.

    Weights and state are those of the parameters' parts, gradients at each moment as much of them
    as are there of the whole ones; what an optimizer's step needs for a moment shrinks likewise.
    """
    devices, parallel = settings.devices, settings.parallelism
    if devices == 1:
        return None
    tokens = settings.rows * settings.length
    sharing = Sharing(devices, tokens, settings.reshard_after_forward)
    division = PARALLELS[parallel].divide(model, sharing)
    kept = _kept(model, settings.optimizer, division)
    whole = sum(p.nbytes for p in model.parameters() if p.requires_grad)

    def part(size: int) -> int:
        return math.ceil(size * kept[TRAINED] / whole) if whole else size

    def local(event: Event) -> int:
        block = event.block
        if block.category not in (ACTIVATIONS, TEMPORARY):
            return block.nbytes
        return part(block.nbytes) if event.phase in _UPDATE else division.local_bytes(block)

    def on_device(point: Point) -> Point:
        gradients = part(point.bytes_by[GRADIENTS])
        buffers = division.communication(point)
        there = {**point.bytes_by, **kept, GRADIENTS: gradients, COMMUNICATION: buffers}
        return Point(point.phase, there)

    peak = max(map(on_device, moments(events, local)), key=lambda point: point.total)
    return DevicePlan(devices, parallel, peak, division.formulas)


def _kept(model: nn.Module, optimizer: str, division: Division) -> dict[str, int]:
    """The bytes of a device's weights, gradients and optimizer state; buffers are whole."""
    parts = nn.ParameterList(
        nn.Parameter(
            torch.empty(tuple(division.local_shape(name, p)), dtype=p.dtype), p.requires_grad
        )
        for name, p in model.named_parameters()
    )
    for at, buffer in enumerate(model.buffers()):
        parts.register_buffer(f"buffer{at}", buffer)
    trained = [p for p in parts.parameters() if p.requires_grad]
    return formula(parts, OPTIMIZERS[optimizer](trained))
