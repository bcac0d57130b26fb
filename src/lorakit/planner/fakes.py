"""Models of fake tensors: shapes, types and a device, and no memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from lorakit.private.torch_names import FakeTensorMode

Model = TypeVar("Model", bound=nn.Module)


def fake_copy(model: Model, mode: FakeTensorMode) -> Model:
    """A copy of a model, on any device or none, whose tensors are fake ones on the CPU; ties stay.

    No value is read or copied.
    """
    fakes: dict[int, object] = {}  # what deepcopy takes for copied already
    for tensor in (*model.parameters(), *model.buffers()):
        with mode:
            fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        is_parameter = isinstance(tensor, nn.Parameter)
        fakes[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
    return deepcopy(model, fakes)


def fake_batch(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the same shapes and types, made where fake tensors are."""
    return {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in batch.items()}
