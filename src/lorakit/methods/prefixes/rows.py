"""What virtual tokens hold: rows that are trained, or that a small network gives while they train.

Li and Liang (arXiv 2101.00190, section 4.3) found prefixes unstable to train directly, and had them
computed from a smaller table,

    P[v] = MLP(P'[v])        P' (V, k), MLP: k -> k, tanh, k -> D

of which only P is kept in the end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Rows(nn.Module):
    """Trainable rows."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start)

    def forward(self) -> Tensor:
        """The rows."""
        return self.weight


class ComputedRows(nn.Module):
    """The reparametrisation; its rows begin around the mean of `start` (V, D)."""

    def __init__(self, start: Tensor, width: int) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": start.device, "dtype": start.dtype}
        self.table = nn.Parameter(torch.empty(len(start), width, **place).normal_())
        self.inner = nn.Linear(width, width, **place)
        self.outer = nn.Linear(width, start.shape[1], **place)
        with torch.no_grad():
            self.outer.bias.copy_(start.mean(0))

    def forward(self) -> Tensor:
        """The rows, (V, D)."""
        return self.outer(torch.tanh(self.inner(self.table)))  # type: ignore[no-any-return]

    def settled(self) -> Rows:
        """The rows as they are, to be used without the network."""
        return Rows(self().detach())


def trainable_rows(start: Tensor, width: int | None) -> Rows | ComputedRows:
    """Rows that begin at `start` (V, D), or that a network of this width computes."""
    return Rows(start) if width is None else ComputedRows(start, width)
