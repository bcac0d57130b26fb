"""The check of a merged weight in compiled code.

Compiled code guards objects and attributes and not what is in a tensor, so it cannot see that A
was written to. The check is an operation of its own, which rewrites a stale merged weight in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorakit.layers.merge_cache import watched

_NAME = "lorakit::refresh_merged"


def _refresh(merged: Tensor, layer: int) -> None:
    with torch.no_grad():
        weight = watched(layer).effective_weight()
    if weight.data_ptr() != merged.data_ptr():
        merged.copy_(weight)


torch.library.define(_NAME, "(Tensor(a!) merged, int layer) -> ()")
torch.library.impl(_NAME, "cpu", _refresh)
torch.library.register_fake(_NAME, lambda merged, layer: None)  # tracing needs no values


def refresh_merged(merged: Tensor, layer: int) -> None:
    """Bring the cached weight of the layer with this id up to date."""
    torch.ops.lorakit.refresh_merged(merged, layer)
