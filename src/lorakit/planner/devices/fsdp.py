"""Fully sharded data parallel: a device keeps a part of every parameter, and rows of its own.

The units that are gathered are the blocks of the model, and the root: all that is in no block. With
n devices, each parameter padded to a multiple of n rows, in bytes: let R be the root, U the largest
block, S all blocks, and R', U' what of R, U trains, which is as large as its whole gradients. The
buffers beside the shards are at most

    forward     R + 2 U                          a block, and what it was copied from
    backward    R + max(2 U + R' + 2 U', 2 R')   a block and, ahead of its turn, the next one; the
                                                 root's gradients, a block's, and a copy of those
                                                 that are being reduced

with no more gradients than there are yet; without resharding after the forward S + U in place of
the first 2 U, and S in place of the second. The root stays gathered from its forward to its
backward, the last one; its own gather, before there is any activation, is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from torch import Tensor, nn

from lorakit.errors import TargetError
from lorakit.injection.selection.naming import within
from lorakit.methods.blocks import stacks
from lorakit.planner.devices.division import Division, Formula, Sharing, divided
from lorakit.planner.recording import GRADIENTS
from lorakit.planner.timeline import Point

_TORCH = "torch.distributed.fsdp.fully_shard"
_ROOT = ""


def fsdp(model: nn.Module, sharing: Sharing) -> Division:
    """torch's FSDP2, fully_shard on every block and on the model."""
    forward, backward = ("2 U", "2 U") if sharing.reshard_after_forward else ("S + U", "S")
    return Division(
        formulas=(
            Formula(
                "weights, gradients and optimizer state: ceil(d / n) of a parameter's d rows",
                f"{_TORCH}; ZeRO stage 3, Rajbhandari et al., arXiv 1910.02054",
            ),
            Formula(
                f"communication: R + {forward} in the forward, R + max({backward} + R' + 2 U', "
                "2 R') in the backward; R what is in no block, U a block, S all blocks, R' and U' "
                "the gradients of those, as far as there are any yet",
                f"{_TORCH}; Zhao et al., arXiv 2304.11277",
            ),
        ),
        local_shape=partial(_shard, sharing.devices),
        communication=_communication(model, sharing),
    )


def _shard(devices: int, _: str, parameter: Tensor) -> list[int]:
    return divided(parameter.shape, 0, devices) if parameter.ndim else []


def _communication(model: nn.Module, sharing: Sharing) -> Callable[[Point], int]:
    units, devices = _units(model), sharing.devices
    weights = {name: _gathered(unit, devices) for name, unit in units.items()}
    trained = {
        name: _gathered([p for p in unit if p.requires_grad], devices)
        for name, unit in units.items()
    }
    root, root_trained = weights.pop(_ROOT), trained.pop(_ROOT)
    block, block_trained = (max(of.values(), default=0) for of in (weights, trained))
    reshards = sharing.reshard_after_forward
    ahead = 2 * block if reshards else sum(weights.values())
    forward = ahead if reshards else ahead + block

    def buffers(point: Point) -> int:
        if point.phase == "forward":
            return root + forward
        if point.phase != "backward":
            return 0
        of_root, of_block = (
            min(size, point.bytes_by[GRADIENTS]) for size in (root_trained, block_trained)
        )
        return root + max(ahead + of_root + 2 * of_block, 2 * of_root)

    return buffers


def _units(model: nn.Module) -> dict[str, list[Tensor]]:
    """The parameters of each block, and of the root; without blocks that has all of them."""
    try:
        blocks = [block.name for stack in stacks(model) for block in stack.blocks]
    except TargetError:
        blocks = []
    units: dict[str, list[Tensor]] = {name: [] for name in (_ROOT, *blocks)}
    for name, parameter in model.named_parameters():
        units[next((block for block in blocks if within(name, block)), _ROOT)].append(parameter)
    return units


def _gathered(parameters: list[Tensor], devices: int) -> int:
    """The bytes of whole parameters, rows padded to a multiple of the devices."""
    return devices * sum(prod(_shard(devices, "", p)) * p.element_size() for p in parameters)
