"""Which order of products is the cheaper one.

    low-rank path   y = x W^T, then y += s h B^T with h = x A^T      passes over y: T * O numbers
    formed weight   W' = W + s B A, then y = x W'^T                  passes over W: O * I numbers

Many tokens make the second cheaper. In the gradient of the input the two are G W + (g A) and G W',
where g is needed anyway. The choice follows a model of the time of each one's extra work,

    time = operations / (operations per second) + bytes / (bytes per second) + calls * overhead

with constants measured for each kind of device and type, as `python -m benchmarks product_costs`
prints them. Where nothing was measured, the low-rank path runs.

Source: RunLoRA, arXiv 2312.03415, which chooses among such orders by counting operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rates:
    """What a device does in a second, in products with one side of a rank, and a call's seconds."""

    operations: float
    bytes: float
    call: float

    def seconds(self, operations: int, moved: int, calls: int) -> float:
        """The model's time of a piece of work that moves this many bytes."""
        return operations / self.operations + moved / self.bytes + calls * self.call


MEASURED = {
    ("cpu", torch.float32): Rates(operations=2.7e11, bytes=6.9e10, call=3.4e-6),
    ("cpu", torch.bfloat16): Rates(operations=8.5e11, bytes=7.3e10, call=1.7e-5),
}
"""By device type and dtype."""


def forming_pays(tokens: int, down: int, up: int, weight: Tensor, rank: int) -> bool:
    """Whether forming W + s B A costs less than the products of the low-rank path.

    Those read (tokens, down), which is 0 where that product is needed anyway, and add to
    (tokens, up).
    """
    rates = MEASURED.get((weight.device.type, weight.dtype))
    if rates is None:
        return False
    size, numbers = weight.element_size(), weight.shape[0] * weight.shape[1]
    moved = tokens * (down + 2 * up) * size
    low_rank = rates.seconds(2 * tokens * (down + up) * rank, moved, 2 if down else 1)
    return rates.seconds(2 * numbers * rank, 2 * numbers * size, 1) < low_rank
