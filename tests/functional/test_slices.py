"""Slices of a fused weight against separate layers, and their block form."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import linear, slices
from lorakit.functional.slices import Slices
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}
CLOSE = TOLERANCES[torch.float64]
QV: Slices = ((4, True), (4, False), (4, True))
UNEQUAL: Slices = ((6, True), (2, False), (3, True), (1, True))

fused = st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=5).filter(
    lambda parts: any(adapted for _, adapted in parts)
)


def factors(parts: Slices, i: int, r: int) -> tuple[Tensor, Tensor]:
    heights = slices.adapted_heights(parts)
    return torch.randn(len(heights) * r, i, **F64), torch.randn(sum(heights), r, **F64)


def slow_delta(a: Tensor, b: Tensor, s: float, parts: Slices) -> Tensor:
    """Row by row: row o of adapted slice n is s * B[o] A_n; every other row is zero."""
    r, rows, n, taken = b.shape[1], [], 0, 0
    for height, adapted in parts:
        for _ in range(height):
            rows.append(s * b[taken] @ a[n * r : (n + 1) * r] if adapted else 0 * a[0])
            taken += adapted
        n += adapted
    return torch.stack(rows)


@settings(max_examples=50)
@given(fused, st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_lora_slices_equals_the_definition_with_every_gradient(parts, i, r, transposed):
    parts = tuple(parts)
    o = sum(height for height, _ in parts)
    a, b = factors(parts, i, r)
    values = [torch.randn(3, 2, i, **F64), torch.randn(o, i, **F64), torch.randn(o, **F64), a, b]
    fast = [v.clone().requires_grad_() for v in values]
    slow = [v.clone().requires_grad_() for v in values]
    x, w, *rest = fast
    y = slices.lora_slices(x, w.t() if transposed else w, *rest, 0.7, parts, transposed=transposed)
    x, w, bias, a, b = slow
    expected = x @ (w + slow_delta(a, b, 0.7, parts)).T + bias
    assert_close(y, expected, **CLOSE)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    expected.backward(upstream)
    for name, one, other in zip(("x", "W", "bias", "A", "B"), fast, slow, strict=True):
        assert_close(one.grad, other.grad, **CLOSE, msg=name)


@pytest.mark.parametrize("parts", [QV, UNEQUAL])
@pytest.mark.parametrize("transposed", [False, True])
def test_lora_slices_passes_gradcheck(parts, transposed):
    a, b = factors(parts, 3, 2)
    inputs = [torch.randn(2, 3, **F64), torch.randn(12, 3, **F64), torch.randn(12, **F64), a, b]

    def function(x, w, *rest):
        weight = w.t() if transposed else w
        return slices.lora_slices(x, weight, *rest, 0.7, parts, transposed=transposed)

    assert torch.autograd.gradcheck(function, tuple(v.requires_grad_() for v in inputs))


@settings(max_examples=50)
@given(fused, st.integers(1, 5), st.integers(1, 4), st.floats(-3, 3))
def test_delta_equals_the_definition(parts, i, r, s):
    parts = tuple(parts)
    a, b = factors(parts, i, r)
    assert_close(slices.delta(a, b, s, parts), slow_delta(a, b, s, parts), **CLOSE)


@settings(max_examples=50)
@given(fused, st.integers(1, 5), st.integers(1, 4))
def test_block_form_is_inverted_and_computes_the_same_update(parts, i, r):
    parts = tuple(parts)
    a, b = factors(parts, i, r)
    a_block, b_block = slices.as_block(a, b, parts)
    o, n = sum(height for height, _ in parts), len(slices.adapted_heights(parts))
    assert a_block.shape == (n * r, i)
    assert b_block.shape == (o, n * r)
    assert int(b_block.count_nonzero()) == b.numel()
    block_dw = linear.delta(a_block, b_block, 1.5)
    assert_close(block_dw, slow_delta(a, b, 1.5, parts), **CLOSE)
    back = slices.from_block(a_block, b_block, parts)
    assert back is not None
    assert_close(back, (a, b), **EXACT)


def test_as_block_places_the_documented_example():
    a, b = torch.randn(2, 4), torch.randn(8, 1)
    _, block = slices.as_block(a, b, QV)
    assert block.shape == (12, 2)
    assert_close(block[:4, :1], b[:4], **EXACT)
    assert_close(block[8:, 1:], b[4:], **EXACT)
    assert block[4:8].abs().sum() + block[:4, 1].abs().sum() + block[8:, 0].abs().sum() == 0


@pytest.mark.parametrize(("row", "column"), [(0, 1), (5, 0), (11, 0)])
def test_from_block_refuses_numbers_outside_the_blocks(row, column):
    a, block = slices.as_block(*factors(QV, 4, 1), QV)
    block[row, column] = 1e-30
    assert slices.from_block(a, block, QV) is None


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((3, 4), (12, 3)), ((2, 4), (11, 2)), ((2, 4), (12, 4))]
)
def test_from_block_refuses_shapes_that_no_slices_have(a_shape, b_shape):
    assert slices.from_block(torch.zeros(a_shape), torch.zeros(b_shape), QV) is None


@pytest.mark.parametrize(
    ("parts", "out_features", "expected"),
    [
        (((None, True), (None, False), (None, True)), 12, QV),
        (((None, True), (None, False)), 7, None),
        (((6, True), (2, False), (3, True), (1, True)), 12, UNEQUAL),
        (((6, True), (2, False)), 9, None),
        (((6, True), (2, False)), 7, None),
        (((None, True),), 5, ((5, True),)),
    ],
)
def test_resolve_fills_in_heights_or_says_that_they_do_not_fit(parts, out_features, expected):
    assert slices.resolve(parts, out_features) == expected


@given(fused)
def test_spans_and_heights_are_those_of_the_adapted_slices(parts):
    marks = torch.cat([torch.full((h,), float(on)) for h, on in parts])
    spans = slices.adapted_spans(tuple(parts))
    assert [stop - start for start, stop in spans] == slices.adapted_heights(tuple(parts))
    assert all(bool(marks[start:stop].all()) for start, stop in spans)
    assert sum(stop - start for start, stop in spans) == int(marks.sum())


def test_one_mask_is_drawn_for_all_slices():
    parts: Slices = ((4, True), (4, True))
    a, b = torch.ones(2, 6, **F64), torch.ones(8, 1, **F64)
    x, w = torch.randn(50, 6, **F64), torch.zeros(8, 6, **F64)
    y = slices.lora_slices(x, w, None, a, b, 1.0, parts, dropout=0.5)
    assert_close(y[:, :4], y[:, 4:], **EXACT)
    assert not torch.allclose(y[:, 0], x.sum(1))


def test_slices_work_under_vmap_over_stacked_adapters():
    parts, x, w = QV, torch.randn(3, 4, **F64), torch.randn(12, 4, **F64)
    stack = [factors(parts, 4, 2) for _ in range(3)]
    a, b = (torch.stack(side) for side in zip(*stack, strict=True))
    y = torch.func.vmap(lambda a, b: slices.lora_slices(x, w, None, a, b, 0.5, parts))(a, b)
    expected = [x @ (w + slow_delta(*pair, 0.5, parts)).T for pair in stack]
    assert_close(y, torch.stack(expected), **CLOSE)
