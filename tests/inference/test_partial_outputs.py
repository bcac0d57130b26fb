"""Completions of one model are not those of another that has the same bytes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorakit.inference.partial_outputs import weights_digest


def model(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    module = nn.Linear(columns, rows, bias=False)
    module.weight = nn.Parameter(torch.zeros(rows, columns, dtype=dtype))
    return module


@pytest.mark.parametrize(
    "other", [model(8, 2), model(2, 16, torch.bfloat16)], ids=["shape", "dtype"]
)
def test_weights_digest_has_shapes_and_dtypes(other: nn.Module) -> None:
    assert weights_digest(other) != weights_digest(model(2, 8))


def test_weights_digest_has_what_trains_alone() -> None:
    both = nn.Sequential(model(2, 8), model(2, 8).requires_grad_(False))
    before = weights_digest(both)
    with torch.no_grad():
        both[1].weight.add_(1)
    assert weights_digest(both) == before
