"""Replacing a parameter, and listing the tensors of a checkpoint."""

from __future__ import annotations

from torch import Tensor, nn


def parameter_like(old: Tensor, data: Tensor) -> nn.Parameter:
    """`data` as a Parameter with the flags and attributes of `old`.

    Libraries set attributes on parameters: transformers marks those loaded from a checkpoint.
    """
    parameter = nn.Parameter(data, requires_grad=old.requires_grad)
    parameter.__dict__.update(old.__dict__)
    return parameter


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's checkpoint: parameters and persistent buffers, tied ones once.

    >>> list(state_tensors(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    state = model.state_dict(keep_vars=True)
    first = {id(value): name for name, value in reversed(state.items())}
    return {n: v for n, v in state.items() if isinstance(v, Tensor) and first[id(v)] == n}
