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

_SECONDS, _MOST_CALLS = 0.1, 20
"""For each rate."""
_PRODUCT_SECONDS, _PRODUCT_SIZES = 0.01, (256, 512, 1024, 2048, 4096, 8192)
_LEAST_POWER, _MOST_POWER = 18, 28


def seconds_of(work: Work) -> float:
    """The time of a step whose operations run one after another."""
    return sum(count * _seconds(operation) for operation, count in work.operations.items())


def _seconds(operation: Operation) -> float:
    """The longest of three times: of its arithmetic, of its bytes, and that any operation takes."""
    arithmetic = operation.flops / product_rate(operation.dtype) if operation.flops else 0.0
    movement = operation.nbytes / bandwidth(operation.nbytes, operation.allocates)
    return max(arithmetic, movement, least_seconds())


@cache
def product_rate(dtype: torch.dtype) -> float:
    """FLOPs a second of a product of square matrices, large enough to take a while."""
    for size in _PRODUCT_SIZES:
        a, b = (torch.ones(size, size, dtype=dtype, device=_device()) for _ in range(2))
        product = partial(torch.matmul, a, b)
        if warmed_up(product, _device()) >= _PRODUCT_SECONDS:
            break
    return 2 * size**3 / _median(product)


def bandwidth(nbytes: int, allocates: bool) -> float:
    """Bytes a second of an operation that moves as many: few come from caches and known memory."""
    return _bandwidth(min(max(nbytes.bit_length(), _LEAST_POWER), _MOST_POWER), allocates)


@cache
def _bandwidth(power: int, allocates: bool) -> float:
    """Of a sum that moves 2**power bytes, into new memory or one of its terms."""
    a, b = (torch.ones(2**power // 12, device=_device()) for _ in range(2))
    return 3 * a.nbytes / _median(partial(a.add if allocates else a.add_, b))


@cache
def least_seconds() -> float:
    """Of an operation on next to nothing."""
    one, calls = torch.ones(1, device=_device()), 1000
    return measure(partial(torch.add, one, one), calls, _device())


def _device() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type


def _median(run: Callable[[], object]) -> float:
    first = warmed_up(run, _device())
    calls = min(_MOST_CALLS, max(1, int(_SECONDS / first)))
    return median(measure(run, 1, _device()) for _ in range(calls))
