"""Parameters and buffers: one in another one's place, and all that a checkpoint holds."""

from __future__ import annotations

from torch import Tensor, nn


def parameter_like(old: Tensor, data: Tensor) -> nn.Parameter:
    """`data` as a Parameter with the flags and attributes of `old`.

    Libraries keep marks on parameters: transformers notes there what it loaded from a checkpoint.
    """
    parameter = nn.Parameter(data, requires_grad=old.requires_grad)
    parameter.__dict__.update(old.__dict__)
    return parameter


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the model holds: parameters and persistent buffers, each object once.

    >>> list(state_tensors(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    buffers = {
        f"{prefix}.{leaf}" if prefix else leaf: buffer
        for prefix, module in model.named_modules()
        for leaf, buffer in module._buffers.items()
        if buffer is not None and leaf not in module._non_persistent_buffers_set
    }
    alone = {id(buffer): name for name, buffer in reversed(buffers.items())}
    return dict(model.named_parameters()) | {n: b for n, b in buffers.items() if alone[id(b)] == n}
