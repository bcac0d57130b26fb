"""Input embeddings with rows of their own for virtual tokens, which are in no vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.surgery.disabling import Disableable

_FIRST = -(2**30)
"""The id of the first virtual token: no id that a tokenizer or a mistake would give."""


def virtual_ids(count: int) -> list[int]:
    """The ids of the virtual tokens."""
    return [_FIRST + number for number in range(count)]


class VirtualEmbedding(Disableable):
    """A mixin in front of an embedding's class; its child `prefix` gives the rows (V, d)."""

    prefix: nn.Module

    def __call__(self, ids: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.is_off():
            return super().__call__(ids, *args, **kwargs)  # type: ignore[no-any-return]
        is_virtual = ids < _FIRST // 2
        known = super().__call__(ids.masked_fill(is_virtual, 0), *args, **kwargs)
        rows = self.prefix().to(known.dtype)
        numbers = (ids - _FIRST).clamp(0, len(rows) - 1).masked_fill(~is_virtual, 0)
        return torch.where(is_virtual[..., None], F.embedding(numbers, rows), known)
