"""A rank beside a module: whether it fits there, and how many parameters it costs.

With I inputs and O outputs, kernel positions counted among the inputs, A is (r, I / G) and
B (O, r / G) in numbers; G are a convolution's groups, and 1 elsewhere.
"""

from __future__ import annotations

from torch import nn

from lorakit.layers import conversion


def rank_refusal(module: nn.Module, r: int) -> str | None:
    """Why this module cannot have an adapter of rank r, or None if it can."""
    if r % _groups(module):
        return f"has groups={_groups(module)}; r={r} must be a multiple of that"
    return None


def adapter_parameters(module: nn.Module, r: int) -> int:
    """How many numbers A and B have: r (I + O) / G.

    >>> adapter_parameters(nn.Conv2d(32, 32, 3, groups=32), r=32)
    320
    """
    return r * sum(conversion.features(module)) // _groups(module)


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) else 1
