"""Whether values are finite, beside the definition, in every type that is stored."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakit.functional.finite import has_nan, is_finite

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
VALUES = st.sampled_from([0.0, -1.0, 3e38, math.inf, -math.inf, math.nan])


@given(st.lists(VALUES, max_size=9), st.sampled_from(TYPES))
def test_answers_are_those_of_the_definition(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=torch.float64).to(dtype)
    assert is_finite(x) == bool(x.isfinite().all())
    assert has_nan(x) == bool(x.isnan().any())


@pytest.mark.parametrize("dtype", TYPES)
def test_large_values_whose_sum_is_infinite_are_finite(dtype: torch.dtype) -> None:
    assert is_finite(torch.full((64, 64), torch.finfo(dtype).max, dtype=dtype))


def test_what_no_sum_is_computed_with_is_not_looked_at() -> None:
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.empty(0, 3))
    assert is_finite(torch.empty(3, device="meta"))
    assert is_finite(torch.tensor([math.nan]).to(torch.float8_e4m3fn))
    assert not has_nan(torch.tensor([True]))
    assert not is_finite(torch.nn.Parameter(torch.tensor([math.inf])))
