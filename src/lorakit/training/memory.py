"""The peak of memory, of the accelerator or of this process."""

from __future__ import annotations

import sys

import torch


def peak_memory() -> int:
    """Peak bytes on the accelerator if there is one, else of this process since it began."""
    if torch.accelerator.is_available():
        return int(torch.accelerator.max_memory_allocated())
    if sys.platform == "win32":
        return 0  # not in Python's standard library there
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
