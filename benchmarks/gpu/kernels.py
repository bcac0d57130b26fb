"""Where the time of a step goes: the operations that differ most between lorakit and the floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import shapes, steps
from benchmarks.registry import Row, Settings
from benchmarks.training_step import step
from lorakit.timing import measure

STEPS = 3
STEP, SUM = "the step", "sum of its operations"
MOST_ROWS = 10
"""Operations of a cell."""
MOST_CHARACTERS = 90
"""Of an operation's name."""

CONDITIONS = {
    "models, adapter, floor": "as for the training steps",
    "ms": f"of a step, mean of {STEPS}, by torch.profiler: of kernels on an accelerator, of "
    "operators without those that they call on a CPU",
    STEP: "timed without the profiler; where it is far above the next row, the device waits",
    SUM: "of all operations; those with the largest differences follow",
    "calls": "of lorakit, and of the floor",
}

Times = dict[str, tuple[float, float]]
"""Milliseconds and calls of a step, by operation."""


def check(settings: Settings) -> None:
    steps.require_peft()


def rows(settings: Settings) -> Iterator[Row]:
    count = shapes.tokens(settings)[0]
    for model in shapes.models(settings):
        base, ids = shapes.build(settings, model), shapes.batch(settings, model, count)
        floor = times(settings, step(shapes.floor(base, model), ids))
        for (label, targets), dropout in product(model.targets.items(), shapes.DROPOUTS):
            adapted = times(settings, step(steps.adapt("lorakit", base, targets, dropout), ids))
            cell = {"model": model.name, "tokens": count, "targets": label, "dropout": dropout}
            yield from (cell | row for row in differences(adapted, floor))
        del base
        shapes.free_memory(settings.device)


def times(settings: Settings, run: Callable[[], object]) -> Times:
    """The step as a whole, without the profiler, and its operations."""
    on_device = settings.device != "cpu"
    run()
    found: Times = {STEP: (measure(run, STEPS, settings.device) * 1e3, 1)}
    with profile(activities=[activity(settings.device)]) as profiler:
        for _ in range(STEPS):
            run()
        if on_device:
            torch.accelerator.synchronize()
    for event in profiler.key_averages():
        if (event.device_type != DeviceType.CPU) == on_device:  # not the calls that launch kernels
            spent = event.self_device_time_total if on_device else event.self_cpu_time_total
            found[event.key] = (spent / 1e3 / STEPS, event.count / STEPS)
    return found


def activity(device: str) -> ProfilerActivity:
    """What the profiler is to look at: the device, and nothing above it."""
    found: ProfilerActivity = getattr(ProfilerActivity, device.partition(":")[0].upper())
    return found


def differences(adapted: Times, floor: Times) -> list[dict[str, Any]]:
    """The step and the sum of its operations, then these by how much they differ."""
    found = [
        row(name, adapted.get(name, (0.0, 0.0)), floor.get(name, (0.0, 0.0)))
        for name in (adapted.keys() | floor.keys()) - {STEP}
    ]
    found.sort(key=lambda row: (-abs(row["difference, ms"]), row["operation"]))
    whole = [row(STEP, adapted[STEP], floor[STEP]), row(SUM, total(adapted), total(floor))]
    return whole + found[:MOST_ROWS]


def total(found: Times) -> tuple[float, float]:
    operations = [value for name, value in found.items() if name != STEP]
    return sum(ms for ms, _ in operations), sum(calls for _, calls in operations)


def row(name: str, adapted: tuple[float, float], floor: tuple[float, float]) -> dict[str, Any]:
    return {
        "operation": name[:MOST_CHARACTERS],
        "lorakit, ms": adapted[0],
        "floor, ms": floor[0],
        "difference, ms": adapted[0] - floor[0],
        "calls": f"{adapted[1]:g} and {floor[1]:g}",
    }
