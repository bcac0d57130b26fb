"""Merging rounds once; what it loses is measured exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lorakit.functional.merge import merge, rounding_loss
from tests.tolerances import EXACT, TOLERANCES

HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [1e-2, 1.0])
def test_merge_rounds_the_exact_sum_once(dtype, size):
    weight, dw = torch.randn(200, 100).to(dtype), torch.randn(200, 100) * size
    # The float32 sum of a 16-bit and a float32 number is off the exact one by 2^-24 relative, so
    # the two roundings differ only where the exact sum is that close to the middle of two values.
    exact = (weight.double() + dw.double()).to(dtype)
    merged = merge(weight, dw)
    assert merged.dtype == dtype
    assert (merged != exact).sum() <= 2
    twice = weight + dw.to(dtype)
    assert (twice != exact).sum() > 20 * max(1, int((merged != exact).sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merge_in_wide_types_is_the_sum(dtype):
    weight, dw = torch.randn(20, 10, dtype=dtype), torch.randn(20, 10)
    assert_close(merge(weight, dw), weight + dw.to(dtype), **EXACT)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_merge_leaves_its_inputs_alone_and_shares_nothing(dtype):
    weight, dw = torch.randn(4, 5).to(dtype), torch.zeros(4, 5)
    before = weight.clone()
    merged = merge(weight, dw)
    assert_close(merged, weight, **EXACT)
    merged.fill_(7)
    assert_close(weight, before, **EXACT)
    assert not dw.any()


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_rounding_loss_of_no_update_is_zero(dtype):
    assert rounding_loss(torch.randn(4, 5).to(dtype), torch.zeros(4, 5)) == 0.0


def test_rounding_loss_in_float32_is_the_rounding_of_float32():
    loss = rounding_loss(torch.randn(300, 200), torch.randn(300, 200))
    assert 1e-8 < loss < 2e-7


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [1e-4, 7e-3, 0.5])
def test_rounding_loss_equals_a_float64_computation(dtype, size):
    weight, dw = torch.randn(300, 200).to(dtype), torch.randn(300, 200) * size
    w64, d64 = weight.double(), dw.double()
    kept = (w64 + d64).to(dtype).double() - w64
    expected = float((kept - d64).norm() / d64.norm())
    assert rounding_loss(weight, dw) == pytest.approx(expected, rel=1e-3)


def test_rounding_loss_of_a_small_update_in_bfloat16_is_about_a_quarter():
    weight = torch.randn(500, 400)
    dw = torch.randn(500, 400) * 0.007
    assert 0.15 < rounding_loss(weight.bfloat16(), dw) < 0.35


def test_rounding_loss_is_one_where_nothing_of_the_update_survives():
    weight = torch.ones(3, 3, dtype=torch.bfloat16)
    assert rounding_loss(weight, torch.full((3, 3), 1e-4)) == pytest.approx(1.0)


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from(HALF), st.floats(1e-3, 10))
def test_rounding_loss_is_never_above_one_for_an_update_that_rounds_to_nearest(i, o, dtype, size):
    loss = rounding_loss(torch.randn(o, i).to(dtype), torch.randn(o, i) * size)
    assert 0.0 <= loss <= 1.0 + 1e-6
