"""The two forms of a convolution's update against explicit sums."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import conv
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}
CLOSE = TOLERANCES[torch.float64]

groups_and_sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
kernels = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def kernel_factors(g: int, o: int, i: int, r: int, kernel: list[int]) -> tuple[Tensor, Tensor]:
    """A (gR, I/G, *kernel) and B (gO, R/G, 1, ...) for o, i and r a group."""
    ones = [1] * len(kernel)
    return torch.randn(g * r, i, *kernel, **F64), torch.randn(g * o, r, *ones, **F64)


def slow_delta(a: Tensor, b: Tensor, s: float, groups: int) -> Tensor:
    """dW[o] = s * sum over r of B[o, r] A[r of o's group]."""
    height, rank = b.shape[0] // groups, b.shape[1]
    rows = []
    for o in range(b.shape[0]):
        first = o // height * rank
        rows.append(s * sum(b[o, r].reshape(()) * a[first + r] for r in range(rank)))
    return torch.stack(rows)


@settings(max_examples=25)
@given(groups_and_sizes, st.integers(1, 3), kernels, st.floats(-3, 3))
def test_delta_of_the_kernel_form_equals_the_definition(sizes, r, kernel, s):
    g, o, i = sizes
    a, b = kernel_factors(g, o, i, r, kernel)
    dw = conv.delta(a, b, s, torch.Size([g * o, i, *kernel]), g)
    assert_close(dw, slow_delta(a, b, s, g), **CLOSE)


@settings(max_examples=20)
@given(groups_and_sizes, st.integers(1, 3), kernels)
def test_two_small_convolutions_compute_the_update(sizes, r, kernel):
    g, o, i = sizes
    a, b = kernel_factors(g, o, i, r, kernel)
    x = torch.randn(2, g * i, *[5] * len(kernel), **F64)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    dw = conv.delta(a, b, 0.7, torch.Size([g * o, i, *kernel]), g)
    options = {"stride": 2, "padding": 1, "groups": g}
    fast = convolve(convolve(x, a, **options), b, groups=g) * 0.7
    assert_close(fast, convolve(x, dw, **options), **CLOSE)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_delta_of_the_square_form_is_the_product_in_the_weights_order(o, i, r, k):
    a, b = torch.randn(r * k, i * k, **F64), torch.randn(o * k, r * k, **F64)
    dw = conv.delta(a, b, 0.7, torch.Size([o, i, k, k]), 1)
    expected = (0.7 * torch.einsum("hr,rw->hw", b, a)).flatten()
    assert_close(dw.flatten(), expected, **CLOSE)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_square_form_as_kernel_form_has_the_same_update(o, i, r, k):
    shape = torch.Size([o, i, k, k])
    a, b = torch.randn(r * k, i * k, **F64), torch.randn(o * k, r * k, **F64)
    a_wide, b_wide = conv.square_as_kernel_form(a, b, shape)
    assert a_wide.shape == (r * k * k, i, k, k)
    assert b_wide.shape == (o, r * k * k, 1, 1)
    before, after = conv.delta(a, b, 0.7, shape, 1), conv.delta(a_wide, b_wide, 0.7, shape, 1)
    assert_close(after, before, **CLOSE)


@pytest.mark.parametrize("kernel", [(1,), (1, 1, 1)])
def test_square_form_of_size_one_kernels_converts_in_every_dimension(kernel):
    shape = torch.Size([5, 3, *kernel])
    a, b = torch.randn(2, 3, **F64), torch.randn(5, 2, **F64)
    a_wide, b_wide = conv.square_as_kernel_form(a, b, shape)
    assert a_wide.shape == (2, 3, *kernel)
    expected = conv.delta(a, b, 1.0, shape, 1)
    assert_close(conv.delta(a_wide, b_wide, 1.0, shape, 1), expected, **CLOSE)


@settings(max_examples=20)
@given(groups_and_sizes, kernels)
def test_gather_groups_inverts_spread_groups(sizes, kernel):
    g, r, i = sizes
    a = torch.randn(g * r, i, *kernel, **F64)
    wide = conv.spread_groups(a, g)
    assert wide.shape == (g * r, g * i, *kernel)
    assert int(wide.count_nonzero()) == a.numel()
    gathered = conv.gather_groups(wide, g)
    assert gathered is not None
    assert_close(gathered, a, **EXACT)
    x = torch.randn(2, g * i, *[4] * len(kernel), **F64)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    assert_close(convolve(x, wide), convolve(x, a, groups=g), **CLOSE)


def test_gather_groups_refuses_numbers_outside_the_blocks():
    wide = conv.spread_groups(torch.randn(4, 2, 3), 2)
    for row, column in itertools.product((0, 1), (2, 3)):
        changed = wide.clone()
        changed[row, column, 1] = 1e-30
        assert conv.gather_groups(changed, 2) is None


@pytest.mark.parametrize(
    ("kernel", "fits"),
    [
        *[(kernel, True) for kernel in ((3, 3), (1, 1), (1,), (1, 1, 1))],
        *[(kernel, False) for kernel in ((3,), (3, 3, 3), (3, 5), (4, 1))],
    ],
)
def test_fits_square_form_is_where_the_numbers_of_both_forms_agree(kernel, fits):
    assert conv.fits_square_form(kernel) is fits


@pytest.mark.parametrize("groups", [1, 2])
def test_delta_passes_gradcheck_in_both_forms(groups):
    a, b = kernel_factors(groups, 2, 3, 2, [2, 3])
    shape = torch.Size([groups * 2, 3, 2, 3])
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: conv.delta(a, b, 0.7, shape, groups), inputs)
    square = torch.Size([4, 6 // groups, 2, 2])
    a2, b2 = torch.randn(4, 12, **F64), torch.randn(8 // groups, 4, **F64)
    inputs = (a2.requires_grad_(), b2.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: conv.delta(a, b, 0.7, square, groups), inputs)
