"""Where the rows of a tensor come from: the base's files, or memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lorakit.base_checkpoints import BaseCheckpoint

BLOCK = 2 << 20
"""Bytes of the rows that are merged at a time, for which a few such float32 tensors are made."""

Blocks = Iterator[tuple[int, int, Tensor]]
"""(first row, last row + 1, rows), from the first row to the last."""


class RowSource(Protocol):
    """A tensor whose rows can be read."""

    def blocks(self) -> Blocks:
        """Some rows at a time."""

    def whole(self) -> Blocks:
        """All of them at once."""


@dataclass(frozen=True)
class InCheckpoint:
    """A tensor of the base."""

    checkpoint: BaseCheckpoint
    key: str

    def blocks(self) -> Blocks:
        return self.checkpoint.blocks(self.key, BLOCK)

    def whole(self) -> Blocks:
        return self.checkpoint.blocks(self.key, self.checkpoint.tensors[self.key].bytes)


@dataclass(frozen=True)
class InMemory:
    """A tensor that is at hand."""

    tensor: Tensor

    def blocks(self) -> Blocks:
        height = self.tensor.shape[0] if self.tensor.ndim else 1
        step = max(1, BLOCK * height // max(1, self.tensor.nbytes))
        for start in range(0, height, step) if self.tensor.ndim else ():
            yield start, min(height, start + step), self.tensor[start : start + step]
        if not self.tensor.ndim:
            yield 0, 1, self.tensor

    def whole(self) -> Blocks:
        yield 0, self.tensor.shape[0] if self.tensor.ndim else 1, self.tensor
