"""Values of tensors that are read past torch's operations; those without memory have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from lorakit.errors import PlanError

READERS = (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__)
"""Functions that give a tensor's memory to other libraries."""


class NoReaders(TorchFunctionMode):
    """Where it is entered, `READERS` and formatting raise the error that `needs_values` makes."""

    def __init__(self, needs_values: Callable[[object], PlanError]) -> None:
        super().__init__()
        self._needs_values = needs_values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READERS or (func is Tensor.__format__ and args[1]):
            raise self._needs_values(resolve_name(func))
        return func(*args, **(kwargs or {}))
