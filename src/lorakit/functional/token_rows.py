"""Some rows of a weight W (V, D), replaced by values of their own (N, D).

    embedding   y[t] = values[n] where id[t] = rows[n], else W[id[t]]
    linear      y = x W^T + b, with x values[n] + b[rows[n]] in the columns rows[n]

`rows` are in ascending order. The whole weight is never formed, so a step costs as much as its
tokens, and no gradient of size V exists. Values may be wider than the computation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.private.torch_names import is_fake

Rows = tuple[int, ...]


_indices: dict[tuple[Rows, torch.device], Tensor] = {}


def index(rows: Rows, device: torch.device) -> Tensor:
    """The row numbers as a tensor (N,), on a GPU the same at every call.

    To copy them there would wait for the GPU in every forward, and no CUDA graph could hold it.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return torch.tensor(rows, dtype=torch.long, device=device)
    kept = _indices.get((rows, device))
    if kept is None:
        with torch.inference_mode(False):
            kept = torch.tensor(rows, dtype=torch.long, device=device)
        if not is_fake(kept):
            _indices[rows, device] = kept
    return kept


def replace(weight_VD: Tensor, rows: Rows, values_ND: Tensor) -> Tensor:
    """W with these rows, a new tensor."""
    places = index(rows, weight_VD.device)
    return weight_VD.index_copy(0, places, values_ND.to(weight_VD.dtype))


def offset(weight_VD: Tensor, rows: Rows, values_ND: Tensor) -> Tensor:
    """values - W[rows], in at least float32."""
    wide = torch.promote_types(values_ND.dtype, torch.float32)
    return values_ND.to(wide) - weight_VD[index(rows, weight_VD.device)].to(wide)


def delta(weight_VD: Tensor, rows: Rows, values_ND: Tensor) -> Tensor:
    """dW: the offsets in their rows, zeros elsewhere."""
    offsets = offset(weight_VD, rows, values_ND)
    places = index(rows, weight_VD.device)
    return offsets.new_zeros(weight_VD.shape).index_copy(0, places, offsets)


def look_up(
    ids: Tensor,
    y: Tensor,
    rows: Rows,
    values_ND: Tensor,
    padding_idx: int | None = None,
    scale_grad_by_freq: bool = False,
) -> Tensor:
    """The embedding's output y (..., D) for `ids`, with the values where a row is replaced.

    >>> look_up(torch.tensor([5, 7]), torch.zeros(2, 1), (7,), torch.ones(1, 1))
    tensor([[0.],
            [1.]])
    """
    places = index(rows, ids.device)
    position = torch.searchsorted(places, ids).clamp(max=len(rows) - 1)
    hit = places[position] == ids
    # A last row stands for every other token, so that frequencies count the replaced ones alone.
    table = torch.cat([values_ND, values_ND.new_zeros(1, values_ND.shape[1])])
    own = F.embedding(
        torch.where(hit, position, len(rows)),
        table,
        rows.index(padding_idx) if padding_idx in rows else None,
        scale_grad_by_freq=scale_grad_by_freq,
    )
    return torch.where(hit.unsqueeze(-1), own.to(y.dtype), y)


def project(x: Tensor, y: Tensor, weight_VD: Tensor, rows: Rows, values_ND: Tensor) -> Tensor:
    """The linear layer's output y (..., V) for x, with the values in the replaced columns.

    y + x (values - W[rows])^T in these columns: in backward no copy of dy is needed.
    """
    update = F.linear(x, offset(weight_VD, rows, values_ND).to(x.dtype))
    return y.index_add(-1, index(rows, y.device), update.to(y.dtype))
