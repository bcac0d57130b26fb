"""Wrappers of a model that add a prefix to each of its names."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from lorakit.private.torch_names import COMPILED_CHILD


def unwrapped(model: nn.Module) -> nn.Module:
    """The module within torch.compile's, DataParallel's and DistributedDataParallel's wrappers.

    >>> inner = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(inner)) is inner
    True
    """
    while True:
        compiled = model._modules.get(COMPILED_CHILD)
        if compiled is not None:
            model = compiled
        elif isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        else:
            return model
