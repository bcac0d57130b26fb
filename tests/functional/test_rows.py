"""Rows with updates of their own: both forms against the definition, values and each gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional.rows import Part, definition, gathered, is_segmented, pack, segmented
from tests.tolerances import EXACT, TOLERANCES

F64 = torch.float64


def make_part(
    r: int, slots: list[int], rows: list[int], dora: bool = False, **options: int
) -> Part:
    """Four adapters of rank `r`, inputs of width 5 and outputs of width 7."""
    i, o = options.get("i", 5), options.get("o", 7)
    a, b, s = torch.randn(4, r, i, dtype=F64), torch.randn(4, o, r, dtype=F64), torch.rand(4) + 0.5
    d = torch.randn(4, o, dtype=F64) if dora else None
    return Part(a, b, s.to(F64), slots, rows, d)


def by_packing(x: Tensor, y: Tensor, bias: Tensor | None, parts: list[Part]) -> Tensor:
    return gathered(x, y, bias, pack(len(x), parts, y.dtype))


@pytest.mark.parametrize("form", [by_packing, segmented])
@pytest.mark.parametrize("dora", [False, True])
def test_each_form_is_the_definition_with_its_gradients(form: object, dora: bool) -> None:
    parts = [make_part(3, [1, 1, 2], [4, 0, 2]), make_part(2, [0], [5], dora)]
    x, y, bias = torch.randn(6, 3, 5, dtype=F64), torch.randn(6, 3, 7, dtype=F64), torch.ones(7)
    leaves = {"x": x, "y": y}
    for n, part in enumerate(parts):
        names = part._fields
        leaves |= {f"{n}.{k}": t for k, t in zip(names, part, strict=True) if isinstance(t, Tensor)}
    for leaf in leaves.values():
        leaf.requires_grad_()
    results = {}
    for way in (definition, form):
        z = way(x, y, bias.to(F64), parts)  # type: ignore[operator]
        gradients = torch.autograd.grad(z.square().sum(), [*leaves.values()])
        results[way] = z, dict(zip(leaves, gradients, strict=True))
    (expected, expected_gradients), (got, got_gradients) = results.values()
    assert_close(got, expected, **TOLERANCES[F64])
    for name, gradient in expected_gradients.items():
        assert_close(got_gradients[name], gradient, msg=name, **TOLERANCES[F64])


@pytest.mark.parametrize("form", [by_packing, segmented])
def test_a_row_without_an_adapter_keeps_the_bits_of_the_base(form: object) -> None:
    x, y = torch.randn(3, 1, 5, dtype=F64), torch.randn(3, 1, 7, dtype=F64)
    with torch.no_grad():
        z = form(x, y.clone(), None, [make_part(2, [3], [1])])  # type: ignore[operator]
    assert_close(z[[0, 2]], y[[0, 2]], **EXACT)


@given(st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=1, max_size=9), st.integers(1, 4))
def test_any_composition_is_the_definition(slots: list[int | None], tokens: int) -> None:
    there = [(n, k) for n, k in enumerate(slots) if k is not None]
    parts = [make_part(2, [k for _, k in there], [n for n, _ in there])] if there else []
    x, y = torch.randn(len(slots), tokens, 5, dtype=F64), torch.zeros(len(slots), tokens, 7)
    for form in (by_packing, segmented) if parts else ():
        expected = definition(x, y.to(F64), None, parts)
        assert_close(form(x, y.to(F64), None, parts), expected, **TOLERANCES[F64])


def test_a_pack_has_the_type_of_the_output() -> None:
    x, y = torch.randn(2, 3, 5, dtype=torch.bfloat16), torch.randn(2, 3, 7, dtype=torch.bfloat16)
    part = make_part(2, [0, 1], [0, 1])
    wide = definition(x.double(), y.double(), None, [part])
    for form in (by_packing, segmented):
        z = form(x, y.clone(), None, [part])
        assert z.dtype is torch.bfloat16
        assert_close(z.double(), wide, rtol=5e-2, atol=5e-2)


def test_the_form_follows_the_shapes() -> None:
    def is_cut(n: int, tokens: int, adapters: int, r: int, width: int) -> bool:
        x = torch.empty(n, tokens, width, device="meta")
        a, b = (torch.empty(s, device="meta") for s in ((64, r, width), (64, width, r)))
        part = Part(
            a, b, torch.empty(64, device="meta"), [k % adapters for k in range(n)], range(n)
        )
        return is_segmented(x, x, [part])

    assert not is_cut(32, 1, 32, 8, 512)
    assert not is_cut(32, 32, 4, 8, 512)
    assert is_cut(32, 1, 4, 64, 2048)  # few large adapters, one token
    assert is_cut(64, 1, 64, 64, 4096)  # a pack twice the weight
