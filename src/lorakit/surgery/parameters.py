"""A parameter in another one's place."""

from __future__ import annotations

from torch import Tensor, nn


def parameter_like(old: Tensor, data: Tensor) -> nn.Parameter:
    """`data` as a Parameter with the flags and attributes of `old`.

    Libraries keep marks on parameters: transformers notes there what it loaded from a checkpoint.
    """
    parameter = nn.Parameter(data, requires_grad=old.requires_grad)
    parameter.__dict__.update(old.__dict__)
    return parameter
