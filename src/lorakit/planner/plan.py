"""What is planned of a step: a value, and what it says in words and in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorakit.planner.arithmetic import Work
from lorakit.planner.device_plan import DevicePlan
from lorakit.planner.module_kinds import module_kinds
from lorakit.planner.rates import seconds_of
from lorakit.planner.settings import StepSettings
from lorakit.planner.step import EACH_BATCH
from lorakit.planner.timeline import Timeline
from lorakit.text import count_text, duration_text, size_text, table


@dataclass(frozen=True)
class Plan:
    """What a training step takes, before a byte of it is allocated."""

    model: str
    """The model's class."""
    settings: StepSettings
    trainable_parameters: int
    total_parameters: int
    """Of the base, with its head."""
    checkpoint_bytes: int
    """What is saved of what was trained: float32."""
    memory: Timeline
    work: Mapping[str, Work]
    """Of a micro-batch, by phase."""
    device: DevicePlan | None = None
    """What each of several devices holds, by formula."""
    assumed: str | None = None
    """What stands in for data that could not be read, and why."""

    @property
    def flops_per_token(self) -> float:
        """Floating-point operations of products, forward and backward, over all tokens."""
        flops = sum(work.flops for work in self.work.values())
        return flops / (self.settings.rows * self.settings.length)

    @property
    def seconds_per_step(self) -> float:
        """An estimate for this machine by rates that the first call measures, in about a second."""
        repeated = self.settings.batch / self.settings.rows
        return sum(
            seconds_of(work) * (repeated if phase in EACH_BATCH else 1)
            for phase, work in self.work.items()
        )

    @property
    def peak_bytes(self) -> int:
        """The most bytes that live at once in a step."""
        return self.memory.peak.total

    @property
    def bytes_by(self) -> dict[str, int]:
        """The bytes at the peak by what they are for."""
        return dict(self.memory.peak.bytes_by)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: its values, without the method's config and the curve."""
        values = {
            name: getattr(self, name)
            for name in (
                "model",
                "peak_bytes",
                "bytes_by",
                "trainable_parameters",
                "total_parameters",
                "checkpoint_bytes",
                "flops_per_token",
                "seconds_per_step",
            )
        }
        settings = asdict(replace(self.settings, config=None))
        del settings["config"]
        device = {"device": self.device.to_dict()} if self.device else {}
        assumed = {"assumed": self.assumed} if self.assumed else {}
        return {
            **values,
            **assumed,
            "peak_phase": self.memory.peak.phase,
            "modules": [kind.to_dict() for kind in module_kinds(self.memory.modules)],
            **device,
            "settings": settings,
        }

    def __str__(self) -> str:
        device = self.device
        return "\n".join(
            [
                f"{self.model}, {self.settings.method}, {self.settings.step}: "
                f"{size_text(self.peak_bytes)} at the peak, in the {self.memory.peak.phase}",
                *_sizes(self.bytes_by),
                f"{self.trainable_parameters:,} of {self.total_parameters:,} parameters train; "
                f"a checkpoint has {size_text(self.checkpoint_bytes)}",
                f"{count_text(self.flops_per_token)}FLOP a token; about "
                f"{duration_text(self.seconds_per_step)} a step on this machine, an estimate",
                *([device.headline, *_sizes(device.bytes_by)] if device else []),
            ]
        )


def _sizes(bytes_by: Mapping[str, int]) -> list[str]:
    sizes = {**bytes_by, "peak": sum(bytes_by.values())}
    return table([[name, size_text(size)] for name, size in sizes.items()])
