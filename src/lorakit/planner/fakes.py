"""Models of fake tensors: shapes, types and a device, and no memory."""

from __future__ import annotations

from torch import Tensor, nn

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def to_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace every tensor of a model on the meta device by a fake one on the CPU, ties included."""
    fakes: dict[int, Tensor] = {}
    kept: list[Tensor] = []  # ids are of objects that are alive
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in fakes:
                    with mode:
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    fakes[id(tensor)] = (
                        nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
                    )
                    kept.append(tensor)
                tensors[name] = fakes[id(tensor)]
