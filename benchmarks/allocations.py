"""The bytes that torch's allocator for CPUs gives out and takes back, by the profiler's events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def highest(run: Callable[[], object]) -> int:
    """By how much the allocated bytes rise at most while this runs; 0 if they only fall."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes, initial=0))


def held(tensors: Iterable[Tensor]) -> int:
    """The bytes of their storages, each once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
