"""Memory of the accelerator or of this process: the peak, and what is available."""

from __future__ import annotations

import sys

import psutil
import torch

from lorakit.training.container_memory import container_room


def peak_memory() -> int:
    """Peak bytes on the accelerator if it tells them, else of this process since it began."""
    return accelerator_peak() or _process_peak()


def accelerator_peak() -> int:
    """Peak bytes on the accelerator; 0 without one that tells them."""
    return int(torch.accelerator.max_memory_allocated()) if torch.accelerator.is_available() else 0


def available_memory() -> int:
    """Free bytes of the GPU, or without CUDA those that the machine or its container can give."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    here, left = int(psutil.virtual_memory().available), container_room()
    return here if left is None else min(here, left)


def _process_peak() -> int:
    if sys.platform == "win32":
        return 0  # not in Python's standard library there
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
