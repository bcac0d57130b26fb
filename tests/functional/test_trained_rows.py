"""Rows with adapters that train: values and gradients against operations of their own gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import fused
from lorakit.functional.dropout import keep_mask
from lorakit.functional.fused import Form
from lorakit.functional.rows import Part
from lorakit.functional.rows import definition as by_row
from lorakit.functional.trained_rows import Segment, _are_alike, add_segments, definition
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
IN, OUT = 5, 9


def operands(shape: tuple[int, ...], transposed: bool) -> list[Tensor]:
    torch.manual_seed(0)
    size = (IN, OUT) if transposed else (OUT, IN)
    x, weight = torch.randn(*shape, IN).double(), torch.randn(*size).double()
    return [x.requires_grad_(), weight, torch.randn(OUT).double()]


def pair(r: int, trains: bool = True, height: int = OUT, pairs: int = 1) -> list[Tensor]:
    made = [torch.randn(pairs * r, IN), torch.randn(height, r)]
    return [factor.double().requires_grad_(trains) for factor in made]


def segments_of(transposed: bool) -> list[Segment]:
    """Of three ranks; the rows 3 and 6 have none, and the second pair is frozen."""
    cut = ((4, True), (3, False), (2, True))
    return [
        Segment(0, 2, *pair(2), Form(0.7, transposed=transposed)),
        Segment(2, 3, *pair(3, trains=False), Form(1.5, transposed=transposed)),
        Segment(4, 6, *pair(1, height=6, pairs=2), Form(2.0, 0.0, transposed, cut)),
    ]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3)])
def test_values_and_gradients_are_those_of_the_definition(
    shape: tuple[int, ...], transposed: bool
) -> None:
    x, weight, bias = operands(shape, transposed)
    segments = segments_of(transposed)
    leaves = [x, *(f for s in segments for f in (s.a, s.b) if f.requires_grad)]
    fast = add_segments(x, weight, bias, transposed, segments)
    slow = definition(x, weight, bias, transposed, segments)
    assert_close(fast, slow, **CLOSE)
    upstream = torch.randn_like(slow)
    expected = torch.autograd.grad(slow, leaves, upstream)
    assert_close(torch.autograd.grad(fast, leaves, upstream), expected, **CLOSE)


@pytest.mark.parametrize("few", [fused.FEW, 0])
@pytest.mark.parametrize("transposed", [False, True])
def test_segments_that_are_alike_are_batched(
    monkeypatch: pytest.MonkeyPatch, transposed: bool, few: int
) -> None:
    monkeypatch.setattr(fused, "FEW", few)
    x, weight, bias = operands((6, 3), transposed)
    form = Form(0.7, transposed=transposed)
    segments = [Segment(at, at + 2, *pair(2), form) for at in (0, 2, 4)]
    assert _are_alike(x, segments) is bool(few)
    leaves = [x, *(f for s in segments for f in (s.a, s.b))]
    fast = add_segments(x, weight, bias, transposed, segments)
    slow = definition(x, weight, bias, transposed, segments)
    assert_close(fast, slow, **CLOSE)
    upstream = torch.randn_like(slow)
    expected = torch.autograd.grad(slow, leaves, upstream)
    assert_close(torch.autograd.grad(fast, leaves, upstream), expected, **CLOSE)


def test_others_are_not() -> None:
    x, _, _ = operands((6, 3), False)
    form = Form(0.7)
    alike = [Segment(at, at + 3, *pair(2), form) for at in (0, 3)]
    assert _are_alike(x, alike)
    one, other = alike
    for wrong in (
        [one],
        [one, other._replace(stop=5)],
        [s._replace(stop=s.start + 2) for s in alike],
        [Segment(0, 2, *pair(2), form), Segment(4, 6, *pair(2), form)],
        [one, other._replace(form=Form(0.5))],
        [one, Segment(3, 6, *pair(3), form)],
        [one, Segment(3, 6, *pair(2, trains=False), form)],
        [s._replace(form=Form(0.7, 0.1, seed=1)) for s in alike],
    ):
        assert not _are_alike(x, wrong)


def test_values_are_those_of_rows() -> None:
    x, weight, bias = operands((7, 3), False)
    segments = segments_of(False)[:2]
    parts = [
        Part(
            s.a[None],
            s.b[None],
            torch.tensor([s.form.s], dtype=torch.float64),
            (0,) * len(rows),
            rows,
        )
        for s in segments
        for rows in [range(s.start, s.stop)]
    ]
    expected = by_row(x, x @ weight.t() + bias, bias, parts)
    assert_close(add_segments(x, weight, bias, False, segments), expected, **CLOSE)


def test_each_segment_draws_a_mask_of_its_own() -> None:
    x, weight, bias = operands((4,), False)
    one, other = pair(2), pair(3)
    forms = [Form(0.5, 0.25, seed=1), Form(0.5, 0.5, seed=2)]
    found = add_segments(
        x, weight, bias, False, [Segment(0, 2, *one, forms[0]), Segment(2, 4, *other, forms[1])]
    )
    expected = []
    for rows, (a, b), form in ((x[:2], one, forms[0]), (x[2:], other, forms[1])):
        dropped = rows * keep_mask(rows, form.dropout, form.seed)
        expected.append(rows @ weight.t() + bias + form.scale * dropped @ a.t() @ b.t())
    leaves = [x, *one, *other]
    assert_close(found, torch.cat(expected), **CLOSE)
    upstream = torch.randn_like(found)
    assert_close(
        torch.autograd.grad(found, leaves, upstream),
        torch.autograd.grad(torch.cat(expected), leaves, upstream),
        **CLOSE,
    )


def test_half_the_base_computes_in_its_type() -> None:
    x, weight, bias = (t.detach().bfloat16() for t in operands((4, 2), False))
    factors = [f.detach().float().requires_grad_() for f in pair(2)]
    y = add_segments(x.requires_grad_(), weight, bias, False, [Segment(1, 3, *factors, Form(1.0))])
    assert y.dtype is torch.bfloat16
    y.float().square().sum().backward()
    assert all(f.grad is not None and f.grad.dtype is torch.float32 for f in factors)
