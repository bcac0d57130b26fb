"""A result that leaves the range of its type is an error that names its modules."""

from __future__ import annotations

import pytest
import torch

import lorakit as lora
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import MismatchError
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle


def one(dtype: torch.dtype = torch.float32, alpha: float = 4) -> AdapterBundle:
    torch.manual_seed(0)
    return bundle({"q": adapter(LinearSite(7, 5), 2, dtype, lora_alpha=alpha)})


def test_sum_beyond_float16_is_refused() -> None:
    large = one(torch.float16, alpha=1e6)
    for size in ({}, {"rank": 4}):
        with pytest.raises(MismatchError, match="q: float16 cannot hold the values of its lora_B"):
            lora.combine([(large, 0.5)], **size)
    assert 0 < lora.combine([(large, 0.5)], rank=1).error.whole < 1


@pytest.mark.parametrize("weight", [1e300, -1e308])
@pytest.mark.parametrize(
    "options", [{}, {"rank": 1}, {"energy": 0.5}, {"method": "ties"}, {"method": "dare_linear"}]
)
def test_weight_beyond_all_range_is_refused(options: dict, weight: float) -> None:
    with pytest.raises(MismatchError, match="q: its update is too large to be computed"):
        lora.combine([(one(), weight), (one(), weight)], **options)


@pytest.mark.parametrize("size", [{"rank": 1}, {"rank": 4}, {"energy": 0.5}])
def test_scale_beyond_all_range_is_not_resized(size: dict) -> None:
    with pytest.raises(MismatchError, match="q: its update is too large to be computed"):
        lora.resize(one(alpha=1e308), **size)


def test_error_of_large_values_is_finite() -> None:
    outcome = lora.combine([(one(), 1e30), (one(), 1.0)], method="ties", density=0.5)
    assert 0 <= outcome.error.whole < 1
