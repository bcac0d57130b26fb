"""Autocast, and how to exempt a product from it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def autocast_is_on(tensor: Tensor) -> bool:
    """Whether autocast decides the types of products on this tensor's device."""
    device = tensor.device.type
    if torch.compiler.is_compiling():  # torch 2.11 does not trace whether there is autocast
        return device != "meta" and torch.is_autocast_enabled(device)
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Autocast is disabled inside, for this tensor's device."""
    if autocast_is_on(tensor):
        return torch.autocast(tensor.device.type, enabled=False)
    return nullcontext()
