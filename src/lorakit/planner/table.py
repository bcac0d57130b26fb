"""Plans of several methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lorakit.planner.device_plan import DevicePlan
from lorakit.planner.module_kinds import kinds_lines
from lorakit.planner.plan import Plan
from lorakit.planner.planning import Step, model_step
from lorakit.planner.recording import CATEGORIES
from lorakit.planner.settings import StepSettings
from lorakit.text import count_text, size_text, table

_SPEED = ("FLOP/token", "s/step (estimate)")


@dataclass(frozen=True)
class PlanTable:
    """A step of one model, with each of several methods."""

    plans: Mapping[str, Plan]
    """By the name of the method, or of the adapter."""

    @property
    def step(self) -> str:
        """The step of all plans in words; "each" where they differ."""
        steps = {plan.settings.step for plan in self.plans.values()}
        return steps.pop() if len(steps) == 1 else "each"

    @property
    def devices(self) -> dict[str, DevicePlan]:
        """What each of several devices holds, by name; empty for one device."""
        return {name: plan.device for name, plan in self.plans.items() if plan.device}

    def __str__(self) -> str:
        first = next(iter(self.plans.values()))
        differ = self.step != first.settings.step
        head = ("method", *["step"] * differ, "trains", "checkpoint", *CATEGORIES, "peak", *_SPEED)
        rows = [
            (
                name,
                *[plan.settings.step] * differ,
                f"{plan.trainable_parameters:,}",
                size_text(plan.checkpoint_bytes),
                *_sizes(plan.bytes_by),
                count_text(plan.flops_per_token),
                _seconds(plan.seconds_per_step),
            )
            for name, plan in self.plans.items()
        ]
        return "\n".join(
            [
                f"{first.model}, {first.total_parameters:,} parameters, a step of {self.step}",
                *table([head, *rows]),
                "",
                *kinds_lines({name: plan.memory.modules for name, plan in self.plans.items()}),
                *self._device_lines(),
            ]
        )

    def _device_lines(self) -> list[str]:
        if not self.devices:
            return []
        first = next(iter(self.devices.values()))
        rows = [(name, *_sizes(device.bytes_by)) for name, device in self.devices.items()]
        return [
            "",
            first.headline,
            *table([("method", *first.bytes_by, "peak"), *rows]),
            *(f"{one.text} ({one.source})" for one in first.formulas),
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: of one method its plan, else the plans by method."""
        values = {name: plan.to_dict() for name, plan in self.plans.items()}
        return next(iter(values.values())) if len(values) == 1 else {"plans": values}


def plan_steps(steps: Mapping[str, Step], progress: Callable[[], None] | None = None) -> PlanTable:
    """The plan of each step, by its name; `progress` is called with every one."""
    plans = {}
    for name, step in steps.items():
        plans[name] = step.plan()
        if progress is not None:
            progress()
    return PlanTable(plans)


def method_steps(
    model: nn.Module, settings: StepSettings, configs: Mapping[str, Any]
) -> dict[str, Step]:
    """A step with each method and its config; of the settings all but these two count."""
    steps = {name: replace(settings, method=name, config=one) for name, one in configs.items()}
    return {name: model_step(model, step) for name, step in steps.items()}


def _seconds(seconds: float) -> str:
    """Two digits of an estimate.

    >>> _seconds(0.01234), _seconds(7.46), _seconds(12_345)
    ('0.012', '7.5', '12,000')
    """
    rounded = float(f"{seconds:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def _sizes(bytes_by: Mapping[str, int]) -> list[str]:
    """The sizes, and their sum, as text."""
    return [*map(size_text, bytes_by.values()), size_text(sum(bytes_by.values()))]
