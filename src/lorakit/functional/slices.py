"""LoRA on slices of one fused weight.

A fused projection holds several layers in one weight: GPT-2's c_attn (3n, n) is q, k and v.
Each adapted slice i of height H_i has a pair of its own, A_i (R, I) and B_i (H_i, R):

    y[slice i] += s * drop(x) A_i^T B_i^T

The pairs are stored stacked, as loralib stacks them: A (N*R, I), B (sum of the H_i, R). Heights
may differ, as they do with grouped-query attention. The same function is one ordinary LoRA of rank
N*R whose B has blocks: rows of slice i, columns iR to (i+1)R hold B_i, everything else is zero.

Example, c_attn of width 4 with q and v adapted at R = 1: A (2, 4), B (8, 1); as one LoRA B is
(12, 2), with B_q in rows 0-3 of column 0, B_v in rows 8-11 of column 1, and rows 4-7 zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.functional import linear

Slices = tuple[tuple[int, bool], ...]
"""Height of each slice of the output, from the top, and whether it is adapted."""


def resolve(parts: tuple[tuple[int | None, bool], ...], out_features: int) -> Slices | None:
    """The heights filled in; None where they do not add up to `out_features`."""
    if all(height is None for height, _ in parts):
        height, rest = divmod(out_features, len(parts))
        return tuple((height, adapted) for _, adapted in parts) if rest == 0 else None
    heights = [height or 0 for height, _ in parts]
    if sum(heights) != out_features:
        return None
    return tuple((height, adapted) for height, (_, adapted) in zip(heights, parts, strict=True))


def adapted_heights(slices: Slices) -> list[int]:
    """The heights of the adapted slices, in order."""
    return [height for height, adapted in slices if adapted]


def adapted_spans(slices: Slices) -> list[tuple[int, int]]:
    """(first row, last row + 1) of each adapted slice in the fused output."""
    starts = [0]
    for height, _ in slices:
        starts.append(starts[-1] + height)
    return [span for span, (_, adapted) in zip(pairwise(starts), slices, strict=True) if adapted]


def pairs(a: Tensor, b: Tensor, slices: Slices) -> Iterator[tuple[tuple[int, int], Tensor, Tensor]]:
    """For each adapted slice: its span, A_i (R, I) and B_i (H_i, R)."""
    spans = adapted_spans(slices)
    a_parts = a.chunk(len(spans))
    b_parts = b.split(adapted_heights(slices))
    return zip(spans, a_parts, b_parts, strict=True)


def lora_slices(
    x_TI: Tensor,
    weight: Tensor,
    bias_O: Tensor | None,
    a: Tensor,
    b: Tensor,
    s: float,
    slices: Slices,
    dropout: float = 0.0,
    transposed: bool = False,
) -> Tensor:
    """The adapted fused layer; one dropout mask for all slices, as in loralib."""
    y = linear.project(x_TI, weight, bias_O, transposed)
    x = F.dropout(x_TI, dropout) if dropout else x_TI
    updates = (linear.low_rank(x, a_RI, b_HR) for _, a_RI, b_HR in pairs(a, b, slices))
    parts = zip(y.split([height for height, _ in slices], dim=-1), slices, strict=True)
    return torch.cat(
        [linear.add_scaled(part, next(updates), s) if on else part for part, (_, on) in parts],
        dim=-1,
    )


def delta(a: Tensor, b: Tensor, s: float, slices: Slices) -> Tensor:
    """dW of the whole fused weight (O, I), zero in the slices that are not adapted."""
    out_features = sum(height for height, _ in slices)
    wide = torch.promote_types(a.dtype, torch.float32)
    dw_OI = a.new_zeros(out_features, a.shape[1], dtype=wide)
    for (start, stop), a_RI, b_HR in pairs(a, b, slices):
        dw_OI[start:stop] = linear.delta(a_RI, b_HR, s)
    return dw_OI


def as_block(a: Tensor, b: Tensor, slices: Slices) -> tuple[Tensor, Tensor]:
    """The same update as one LoRA: A (N*R, I) and the block-shaped B (O, N*R).

    Both may have leading dimensions, which stay.
    """
    r = b.shape[-1]
    block = b.new_zeros(*b.shape[:-2], sum(height for height, _ in slices), a.shape[-2])
    parts = b.split(adapted_heights(slices), dim=-2)
    for i, ((start, stop), b_HR) in enumerate(zip(adapted_spans(slices), parts, strict=True)):
        block[..., start:stop, i * r : (i + 1) * r] = b_HR
    return a, block


def from_block(a: Tensor, block: Tensor, slices: Slices) -> tuple[Tensor, Tensor] | None:
    """The inverse of `as_block`; None if B has numbers outside its blocks."""
    spans = adapted_spans(slices)
    r, rest = divmod(a.shape[0], len(spans))
    if rest or block.shape != (sum(height for height, _ in slices), a.shape[0]):
        return None
    b = torch.cat([block[lo:hi, i * r : (i + 1) * r] for i, (lo, hi) in enumerate(spans)])
    return (a, b) if torch.equal(as_block(a, b, slices)[1], block) else None
