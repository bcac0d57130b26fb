"""By what a weight is known again: whether it has changed, as far as that is seen at little cost.

Another address or version counter tells, and on a CPU a few of the numbers, since no counter tells
of `.data`, of numpy or of a fused optimizer. On another device comparing them would wait for it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.private.torch_names import version_of

SAMPLES = 16


def sample(weight: Tensor) -> Tensor:
    """A view of some numbers spread over W; the last one, which a write reaches last, is one."""
    if not weight.is_contiguous():
        return weight.diagonal()
    apart = max(1, weight.numel() // SAMPLES)
    return weight.view(-1)[(weight.numel() - 1) % apart :: apart]


class WeightMark(NamedTuple):
    """What was seen of a weight."""

    address: int
    version: int
    shape: torch.Size
    numbers: Tensor | None
    """A copy of a sample; None where that is not compared."""
    strided: tuple[tuple[int, ...], tuple[int, ...], int]
    """Size, stride and offset of the sample."""

    @classmethod
    def of(cls, weight: Tensor, with_numbers: bool = True) -> WeightMark:
        part = sample(weight.detach())
        numbers = part.clone() if with_numbers and weight.is_cpu else None
        strided = tuple(part.shape), part.stride(), int(part.storage_offset())
        return cls(weight.data_ptr(), version_of(weight), weight.shape, numbers, strided)

    def matches(self, weight: Tensor) -> bool:
        """Whether nothing has changed, as far as can be seen."""
        is_same = (
            self.address == weight.data_ptr()
            and self.version == version_of(weight)
            and self.shape == weight.shape
        )
        if not is_same or self.numbers is None:
            return is_same
        return torch.equal(self.numbers, weight.detach().as_strided(*self.strided))
