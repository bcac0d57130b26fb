"""The linear formula against its three-line definition, every gradient, at odd sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import linear
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}


def slow_linear(x_TI, w_OI, bias_O, a_RI, b_OR, s, mask_TI):  # type: ignore[no-untyped-def]
    """y = x W^T + b + s * (mask * x) A^T B^T, by einsum and with dW written out."""
    base = torch.einsum("...i,oi->...o", x_TI, w_OI) + bias_O
    dw_OI = s * torch.einsum("or,ri->oi", b_OR, a_RI)
    return base + torch.einsum("...i,oi->...o", mask_TI * x_TI, dw_OI)


def operands(shape: list[int], i: int, o: int, r: int) -> dict[str, Tensor]:
    return {
        "x": torch.randn(*shape, i, **F64),
        "weight": torch.randn(o, i, **F64),
        "bias": torch.randn(o, **F64),
        "lora_A": torch.randn(r, i, **F64),
        "lora_B": torch.randn(o, r, **F64),
    }


SIZES = st.integers(1, 7)
SHAPES = st.lists(st.integers(0, 4), max_size=3)


@settings(max_examples=40)
@given(SHAPES, SIZES, SIZES, SIZES, st.floats(-3, 3), st.booleans())
def test_lora_linear_equals_the_definition_with_every_gradient(shape, i, o, r, s, transposed):
    fast, slow = operands(shape, i, o, r), {}
    for name, value in fast.items():
        slow[name] = value.clone().requires_grad_()
        value.requires_grad_()
    weight = fast["weight"].t().contiguous() if transposed else fast["weight"]
    y = linear.lora_linear(
        fast["x"], weight, fast["bias"], fast["lora_A"], fast["lora_B"], s, transposed=transposed
    )
    expected = slow_linear(*slow.values(), s, torch.ones([], **F64))
    assert_close(y, expected, **TOLERANCES[torch.float64])
    upstream = torch.randn_like(y)
    y.backward(upstream)
    expected.backward(upstream)
    for name in fast:
        assert_close(fast[name].grad, slow[name].grad, **TOLERANCES[torch.float64], msg=name)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_lora_linear_passes_gradcheck(transposed, bias):
    p = {k: v.requires_grad_() for k, v in operands([2, 1], 3, 5, 2).items()}

    def function(x, weight, bias_O, a, b):
        weight = weight.t() if transposed else weight
        return linear.lora_linear(
            x, weight, bias_O if bias else None, a, b, 0.7, transposed=transposed
        )

    assert torch.autograd.gradcheck(function, tuple(p.values()))
    assert torch.autograd.gradgradcheck(function, tuple(p.values()))


@pytest.mark.parametrize("shape", [[], [0], [3], [2, 3], [2, 0, 3], [2, 1, 3]])
@pytest.mark.parametrize("bias", [False, True])
def test_project_of_a_transposed_weight_equals_linear(shape, bias):
    x, w, b = torch.randn(*shape, 4, **F64), torch.randn(5, 4, **F64), torch.randn(5, **F64)
    b = b if bias else None
    y = linear.project(x, w.t().contiguous(), b, transposed=True)
    assert y.shape == (*shape, 5)
    assert_close(y, linear.project(x, w, b, transposed=False), **TOLERANCES[torch.float64])


def test_project_reads_non_contiguous_inputs():
    x, w = torch.randn(4, 3, 2, **F64).transpose(0, 2), torch.randn(4, 5, **F64)
    y = linear.project(x, w, torch.zeros(5, **F64), transposed=True)
    assert_close(y, x @ w, **TOLERANCES[torch.float64])


def test_low_rank_with_dropout_is_the_definition_with_that_mask():
    p = operands([3, 4], 7, 5, 2)
    torch.manual_seed(1)
    mask = torch.nn.functional.dropout(torch.ones_like(p["x"]), 0.4)
    torch.manual_seed(1)
    y = linear.lora_linear(*p.values(), 1.5, dropout=0.4)
    assert 0 < (mask == 0).sum() < mask.numel()
    assert_close(y, slow_linear(*p.values(), 1.5, mask), **TOLERANCES[torch.float64])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_rank_computes_in_the_type_of_the_input(dtype):
    x = torch.randn(3, 8, dtype=dtype)
    a, b = torch.randn(2, 8) / 8, torch.randn(5, 2)
    h = linear.low_rank(x, a, b)
    assert h.dtype == dtype
    assert_close(h.double(), x.double() @ a.double().T @ b.double().T, **TOLERANCES[dtype])


@given(SIZES, SIZES, SIZES, st.floats(-3, 3))
@settings(max_examples=25)
def test_delta_is_the_update_that_the_fast_path_adds(i, o, r, s):
    p = operands([4], i, o, r)
    dw = linear.delta(p["lora_A"], p["lora_B"], s)
    assert dw.shape == (o, i)
    expected = torch.nn.functional.linear(p["x"], p["weight"] + dw, p["bias"])
    assert_close(linear.lora_linear(*p.values(), s), expected, **TOLERANCES[torch.float64])


def test_lora_linear_with_a_zero_b_gives_the_base_bit_for_bit():
    p = {k: v.float() for k, v in operands([17], 33, 29, 3).items()}
    p["lora_B"].zero_()
    base = torch.nn.functional.linear(p["x"], p["weight"], p["bias"])
    assert_close(linear.lora_linear(*p.values(), 2.0), base, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_delta_of_16_bit_factors_is_not_rounded_to_16_bits(dtype):
    a, b = torch.randn(3, 8).to(dtype), torch.randn(5, 3).to(dtype)
    dw = linear.delta(a, b, 0.3)
    assert dw.dtype == torch.float32
    expected = 0.3 * (b.double() @ a.double())
    assert_close(dw.double(), expected, **TOLERANCES[torch.float32])
