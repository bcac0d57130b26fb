"""The steps that fit into a memory: of each combination of changes the mildest.

A step takes less memory the stronger a change is, so the mildest that fits is found by bisection.
One recording serves all ways to store the base.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lorakit.planner.changes import CHANGES, strength
from lorakit.planner.device_plan import DevicePlan
from lorakit.planner.plan import Plan
from lorakit.planner.planning import Step
from lorakit.planner.recording import BASE
from lorakit.planner.settings import StepSettings


def on_device(plan: Plan) -> Plan | DevicePlan:
    """What one device holds: the plan, or that of each of several devices."""
    return plan.device or plan


class Search:
    """Plans of the steps of one model, each recorded once, and which of them fit."""

    def __init__(self, step: Step, memory: int, progress: Callable[[], None] | None = None) -> None:
        self._record, self._memory, self._progress = step.record, memory, progress
        self._can_checkpoint = False
        self._plans: list[Plan] = []
        self._found: list[Plan] = []
        self._ways = [one.quantised for one in CHANGES["quantisation"].levels(step.settings)]
        self.asked = self._plan(step.settings)
        self._ways = [plan.settings.quantised for plan in self._plans]

    def found(self) -> list[Plan]:
        """Those that fit, without one that changes everything as much as another, or more."""
        if on_device(self.asked).peak_bytes <= self._memory:
            return [self.asked]
        for levels in self._kinds():
            if (plan := self._mildest(levels)) is not None:
                self._found.append(plan)
        return [
            plan
            for plan in self._found
            if not any(_is_no_less(plan.settings, a.settings) for a in self._found if a != plan)
        ]

    def smallest(self) -> Plan:
        """The plan with the least memory, all changes made as far as they go among the plans."""
        step = replace(self.asked.settings, quantised=self._ways[-1])
        for name in CHANGES:
            step = step if name == "quantisation" else self._levels(name, step)[-1]
        self._plan(step)
        return min(self._plans, key=lambda plan: on_device(plan).peak_bytes)

    def _kinds(self) -> Iterator[list[StepSettings]]:
        """Combinations of changes, each as its steps from mild to strong.

        Shorter rows and a lower rank are combined with others where nothing else has fitted.
        """
        for way in self._ways:
            step = replace(self.asked.settings, quantised=way)
            for one in self._levels("checkpointing", step):
                for precise in self._levels("precision", one):
                    yield (batches := self._levels("micro-batches", precise))
            if not any(plan.settings.quantised == way for plan in self._found):
                yield (lengths := self._levels("length", batches[-1]))
                yield self._levels("rank", lengths[-1])
        for name in ("length", "rank"):
            yield self._levels(name, self.asked.settings)

    def _levels(self, name: str, step: StepSettings) -> list[StepSettings]:
        """Of one change, from mild to strong, as far as the model takes them."""
        if name == "checkpointing" and not self._can_checkpoint:
            return [step]
        return CHANGES[name].levels(step)

    def _mildest(self, levels: Sequence[StepSettings]) -> Plan | None:
        """The first that fits, and changes something less than each that was found before."""
        new = [
            step
            for step in levels
            if not any(_is_no_less(step, plan.settings) for plan in self._found)
        ]
        if not new or self._base_is_too_large(new[-1]) or not self._fits(new[-1]):
            return None
        return self._plan(new[bisect_left(new, True, key=self._fits)])

    def _fits(self, step: StepSettings) -> bool:
        return on_device(self._plan(step)).peak_bytes <= self._memory

    def _base_is_too_large(self, step: StepSettings) -> bool:
        """Whether the base alone takes too much, as far as plans say."""
        return any(
            on_device(plan).bytes_by[BASE] > self._memory
            for plan in self._plans
            if plan.settings.dtype == step.dtype and plan.settings.quantised == step.quantised
        )

    def _plan(self, step: StepSettings) -> Plan:
        """The plan of a step; the first time those with other ways to store the base are made."""
        known = next((plan for plan in self._plans if plan.settings == step), None)
        if known is not None:
            return known
        recorded = self._record(step)
        self._can_checkpoint = recorded.can_checkpoint
        if self._progress is not None:
            self._progress()
        ways = self._ways if recorded.can_be_quantised else [step.quantised]
        steps = [replace(step, quantised=way) for way in ways]
        self._plans += (recorded.plan(one) for one in steps)
        return self._plans[len(self._plans) - len(ways) + ways.index(step.quantised)]


def _is_no_less(step: StepSettings, other: StepSettings) -> bool:
    """Whether a step changes everything as much as another, or more."""
    return all(a >= b for a, b in zip(strength(step), strength(other), strict=True))
