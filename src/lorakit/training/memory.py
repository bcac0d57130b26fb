"""The peak of memory, of the accelerator or of this process."""

from __future__ import annotations

import sys

import torch


def peak_memory() -> int:
    """Peak bytes on the accelerator if it tells them, else of this process since it began."""
    return accelerator_peak() or _process_peak()


def accelerator_peak() -> int:
    """Peak bytes on the accelerator; 0 without one that tells them."""
    return int(torch.accelerator.max_memory_allocated()) if torch.accelerator.is_available() else 0


def _process_peak() -> int:
    if sys.platform == "win32":
        return 0  # not in Python's standard library there
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
