"""Times of several candidates in one process: rounds in changing order, to be compared by round.

A shared machine is slow for seconds at a time. A round is short, so all of its candidates meet the
same machine; ratios are taken within a round, and their median leaves out the rounds in which that
was not so. A candidate runs once before it is timed, so that it finds caches and memory as it
leaves them itself; the order is drawn anew for each round.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Mapping
from time import perf_counter

import torch

CALL_SECONDS = 5e-3
"""A measurement repeats the fastest candidate until it lasts that long, the others as often."""

LONG_SECONDS = 1.0
"""A call that takes so long needs no run before each measurement."""

MOST_ROUNDS = 41

Times = dict[str, list[float]]


def interleave(
    candidates: Mapping[str, Callable[[], object]], device: str, seconds: float, least: int = 5
) -> Times:
    """Seconds of one call of each candidate, by round; about `seconds` in all.

    A round goes before, which warms up and tells how many calls make a measurement and how many
    rounds there is time for.
    """
    names = list(candidates)
    first = {name: warmed_up(candidates[name], device) for name in names}
    calls = math.ceil(CALL_SECONDS / min(first.values()))
    warm_ups = {name: int(taken <= LONG_SECONDS) for name, taken in first.items()}
    affordable = seconds / sum((warm_ups[name] + calls) * first[name] for name in names)
    times: Times = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(least, min(MOST_ROUNDS, int(affordable)))):
            for name in random.Random(turn).sample(names, len(names)):
                if warm_ups[name]:
                    candidates[name]()
                times[name].append(measure(candidates[name], calls, device))
    finally:
        gc.enable()
    return times


def warmed_up(run: Callable[[], object], device: str) -> float:
    """Seconds of the second call; of the first one where that was long."""
    seconds = measure(run, 1, device)
    return seconds if seconds > LONG_SECONDS else measure(run, 1, device)


def measure(run: Callable[[], object], calls: int, device: str) -> float:
    """Mean seconds of a call, with all work of the device done."""
    if device != "cpu":
        return measure_with_events(run, calls, device)
    started = perf_counter()
    for _ in range(calls):
        run()
    return (perf_counter() - started) / calls


def measure_with_events(run: Callable[[], object], calls: int, device: str) -> float:
    """The same by the device's clock: from the begin of the first call's work to the last's end."""
    begin, end = (torch.Event(device, enable_timing=True) for _ in range(2))
    torch.accelerator.synchronize()
    begin.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / calls
