"""How fast this machine is, measured once a process; and a step's time by that, an estimate.

Measured in the process that asks, with its threads, on its accelerator or without one on the CPU:
the roofline of Williams et al. (Communications of the ACM 52, 2009), and a least time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from statistics import median

import torch

from lorakit.planner.arithmetic import Operation, Work
from lorakit.timing import measure, warmed_up

_SECONDS, _MOST_CALLS = 0.05, 20
"""For each rate."""
_LONGEST = 0.3
_LEAST_SIZE, _MOST_SIZE = 64, 4096


def seconds_of(work: Work) -> float:
    """The time of a step whose operations run one after another."""
    return sum(count * _seconds(operation) for operation, count in work.operations.items())


def _seconds(operation: Operation) -> float:
    """The longest of its times: of arithmetic, bytes, random numbers, and of any operation."""
    flops, drawn = operation.flops, operation.drawn
    arithmetic = flops / product_rate(operation.dtype, flops) if flops else 0.0
    drawing = drawn / random_rate() if drawn else 0.0
    return max(arithmetic, operation.nbytes / bandwidth(), drawing, least_seconds())


def product_rate(dtype: torch.dtype, flops: int) -> float:
    """FLOPs a second of a product of square matrices that takes about as many."""
    size: int = 2 ** round(((flops // 2).bit_length()) / 3)
    return _square_rate(dtype, min(max(size, _LEAST_SIZE), _MOST_SIZE))


@cache
def _square_rate(dtype: torch.dtype, size: int) -> float:
    """Of matrices of this size, or of the largest that do not take long."""
    if size > _LEAST_SIZE:
        smaller = _square_rate(dtype, size // 2)
        if 2 * size**3 / smaller > _LONGEST:
            return smaller
    a, b = (torch.ones(size, size, dtype=dtype, device=_device()) for _ in range(2))
    return 2 * size**3 / _median(partial(torch.matmul, a, b))


@cache
def bandwidth() -> float:
    """Bytes a second of a sum of what is in no cache."""
    a, b, out = (torch.ones(2**24, device=_device()) for _ in range(3))
    return 3 * a.nbytes / _median(partial(torch.add, a, b, out=out))


@cache
def random_rate() -> float:
    """Random numbers a second."""
    mask = torch.empty(2**20, device=_device())
    return mask.numel() / _median(partial(mask.bernoulli_, 0.9))


@cache
def least_seconds() -> float:
    """Of an operation on next to nothing."""
    one, calls = torch.ones(1, device=_device()), 1000
    return measure(partial(torch.add, one, one), calls, _device())


def _device() -> str:
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def _median(run: Callable[[], object]) -> float:
    first = warmed_up(run, _device())
    calls = min(_MOST_CALLS, max(1, int(_SECONDS / first)))
    return median(measure(run, 1, _device()) for _ in range(calls))
