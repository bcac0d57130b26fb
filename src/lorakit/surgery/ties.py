"""Tied parameters."""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.private.torch_names import is_fake


def tied_names(model: nn.Module) -> list[tuple[str, ...]]:
    """Groups of names of tied parameters, each group in model order.

    Two Parameter objects over the same memory count as tied, as well as one object under two names.

    >>> a, b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    >>> b.weight = a.weight
    >>> tied_names(nn.Sequential(a, b))
    [('0.weight', '1.weight')]
    """
    groups: dict[object, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(storage_key(parameter), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]


def storage_key(tensor: Tensor) -> object:
    """Equal for tensors in the same memory; a meta tensor equals itself alone."""
    if tensor.is_meta or is_fake(tensor) or tensor.numel() == 0:
        return id(tensor)
    return tensor.device, tensor.data_ptr()
