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
    numbers: Tensor | None
    """A copy of a sample; None where that is not compared."""

    @classmethod
    def of(cls, weight: Tensor) -> WeightMark:
        numbers = sample(weight.detach()).clone() if weight.is_cpu else None
        return cls(weight.data_ptr(), version_of(weight), numbers)

    def matches(self, weight: Tensor) -> bool:
        """Whether nothing has changed, as far as can be seen."""
        return (
            self.address == weight.data_ptr()
            and self.version == version_of(weight)
            and (self.numbers is None or torch.equal(self.numbers, sample(weight.detach())))
        )
