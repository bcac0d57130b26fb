"""CUDA graphs: operations that are recorded once and replayed as they were.

A number that the host has drawn or compared meanwhile, and memory that is freed later, would stay
in the graph as they were at its capture.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_captured(tensor: Tensor) -> bool:
    """Whether operations on this tensor go into a CUDA graph now."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()
