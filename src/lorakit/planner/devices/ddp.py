"""Data parallel: every device does the whole step, with rows of its own."""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.planner.devices.division import Division, Formula, Sharing


def ddp(model: nn.Module, sharing: Sharing) -> Division:
    """torch's DistributedDataParallel, as transformers' Trainer makes it."""
    buckets = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    return Division(
        formulas=(
            Formula(
                "weights, gradients and optimizer state: as on one device",
                "torch.nn.parallel.DistributedDataParallel; Li et al., arXiv 2006.15704",
            ),
            Formula(
                "communication: the gradients once more, in the buckets that are reduced",
                "torch.nn.parallel.DistributedDataParallel with gradient_as_bucket_view=False",
            ),
        ),
        local_shape=_whole,
        communication=lambda _: buckets,
    )


def _whole(_: str, parameter: Tensor) -> tuple[int, ...]:
    return tuple(parameter.shape)
