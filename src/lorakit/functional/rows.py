"""A batch in which every row has a low-rank update of its own, or none.

    u[n] = y[n] + s[k] x[n] A[k]^T B[k]^T       k = slots[n]: which of the S adapters row n has
    z[n] = u[n] + d[k] * (u[n] - b)             DoRA besides, with d and the bias b of `dora`

Shapes: x (N, T, I), y (N, T, O) of the base, A (S, R, I), B (S, O, R), s (S,), d (S, O).
The base product is one for all rows. Adapters of other ranks, and of fused slices (`as_block`), are
`Part`s of their own: each names its rows, and a row that no part names keeps y.

There are two forms. In the *gathered* one the factors of each row are copied side by side, once for
a composition of a batch (`pack`), and all rows are two batched products. In the *segmented* one the
rows of an adapter are brought together, and each adapter is two products. The first costs the same
for one adapter and for N; the second reads each adapter once, which pays where few large ones serve
many short rows, and where a pack would be large (`is_segmented`).

Example: rows 0 and 2 have adapter 5, row 1 has none: slots (5, 5), rows (0, 2).

Source: the two forms are those of Punica (arXiv 2310.18547), BGMV and SGMV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.functional.dora import apply_magnitude
from lorakit.functional.linear import low_rank

LARGE = 2**22
"""Numbers in a pack from which on it is not worth its memory."""
CALL = 2**17
"""Numbers that can be read in the time that one more adapter costs the segmented form."""
MOVE = 4
"""What moving a number of x and y, there and back, costs over reading one of a factor."""


class Part(NamedTuple):
    """Adapters of one rank, and the rows that have one of them."""

    a_SRI: Tensor | Sequence[Tensor]
    b_SOR: Tensor | Sequence[Tensor]
    """Both stacked, or each adapter's own wherever it is."""
    s_S: Tensor
    slots: Sequence[int]
    """Of each row in `rows`."""
    rows: Sequence[int]
    d_SO: Tensor | None = None


class Pack(NamedTuple):
    """The factors of each row, with the scale in B; zeros where it has none."""

    a_NRI: Tensor
    b_NRO: Tensor
    d_NO: Tensor | None


def definition(x_NTI: Tensor, y_NTO: Tensor, bias: Tensor | None, parts: Sequence[Part]) -> Tensor:
    """Row by row."""
    z = list(y_NTO)
    for a, b, s, slots, rows, d in parts:
        for n, k in zip(rows, slots, strict=True):
            u = z[n] + s[k] * (x_NTI[n] @ a[k].t() @ b[k].t())
            z[n] = u if d is None else u + d[k] * (u if bias is None else u - bias)
    return torch.stack(z)


def is_segmented(x_NTI: Tensor, y_NTO: Tensor, parts: Sequence[Part]) -> bool:
    """Whether `segmented` costs less than `gathered` with a pack at hand."""
    n, tokens, inputs = x_NTI.shape
    width = inputs + y_NTO.shape[-1]
    packed = n * max(part.a_SRI[0].shape[0] for part in parts) * width
    adapters = [(part.a_SRI[0].shape[0], len(set(part.slots))) for part in parts]
    read = sum(r * count for r, count in adapters) * width
    moved = n * tokens * width * MOVE
    return packed > max(LARGE, inputs * y_NTO.shape[-1]) or (
        packed > read + moved + CALL * sum(count for _, count in adapters)
    )


def pack(n: int, parts: Sequence[Part], dtype: torch.dtype) -> Pack:
    """The factors of `n` rows, padded with zeros to the largest rank, in the type of y."""
    r = max(part.a_SRI[0].shape[0] for part in parts)
    a, b = parts[0].a_SRI[0], parts[0].b_SOR[0]
    a_NRI = a.new_zeros(n, r, a.shape[1], dtype=dtype)
    b_NRO = b.new_zeros(n, r, b.shape[0], dtype=dtype)
    d_NO = None
    for part in parts:
        rows, slots = (torch.tensor(i, device=a_NRI.device) for i in (part.rows, part.slots))
        own, scale = slice(part.a_SRI[0].shape[0]), part.s_S[slots].view(-1, 1, 1)
        a_NRI[rows, own] = torch.stack([part.a_SRI[k] for k in part.slots]).to(dtype)
        b_NOR = torch.stack([part.b_SOR[k] for k in part.slots]) * scale
        b_NRO[rows, own] = b_NOR.transpose(1, 2).to(dtype)
        if part.d_SO is not None:
            d_NO = b_NRO.new_zeros(n, b_NRO.shape[2]) if d_NO is None else d_NO
            d_NO[rows] = part.d_SO[slots].to(dtype)
    return Pack(a_NRI, b_NRO, d_NO)


def gathered(x_NTI: Tensor, y_NTO: Tensor, bias: Tensor | None, factors: Pack) -> Tensor:
    """All rows at once; without gradients y is written to."""
    a_NRI, b_NRO, d_NO = factors
    h_NTR = torch.bmm(x_NTI.to(a_NRI.dtype), a_NRI.transpose(1, 2))
    add = torch.baddbmm if torch.is_grad_enabled() else Tensor.baddbmm_
    u = add(y_NTO, h_NTR, b_NRO)
    return u if d_NO is None else apply_magnitude(u, bias, d_NO.unsqueeze(1))


def segmented(x_NTI: Tensor, y_NTO: Tensor, bias: Tensor | None, parts: Sequence[Part]) -> Tensor:
    """The rows of one adapter after those of another; without gradients y is written to."""
    grad = torch.is_grad_enabled()
    x_NTI, copy = x_NTI.to(y_NTO.dtype), Tensor.index_copy if grad else Tensor.index_copy_
    for part in parts:
        for k, members in _groups(part).items():
            rows = torch.tensor(members, device=x_NTI.device)
            a, b, s = part.a_SRI[k], part.b_SOR[k], part.s_S[k]
            update = low_rank(x_NTI[rows], a, b)
            u = y_NTO[rows] + update * s.to(update.dtype)
            if part.d_SO is not None:
                u = apply_magnitude(u, bias, part.d_SO[k])
            y_NTO = copy(y_NTO, 0, rows, u)
    return y_NTO


def _groups(part: Part) -> dict[int, list[int]]:
    """The rows of each adapter."""
    groups: dict[int, list[int]] = {}
    for row, slot in zip(part.rows, part.slots, strict=True):
        groups.setdefault(slot, []).append(row)
    return groups
