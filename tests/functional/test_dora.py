"""DoRA against its definition: W' written out, every gradient, the norm against the dense one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lorakit.functional import dora, fused
from tests.tolerances import EXACT, TOLERANCES

CLOSE = TOLERANCES[torch.float64]
NAMES = ("x", "weight", "bias", "lora_A", "lora_B", "lora_magnitude_vector")
TRAINS = ("x", "bias", "lora_A", "lora_B", "lora_magnitude_vector")


def operands(shape=(3,), i=5, o=7, r=2, dtype=torch.float64):
    values = (
        torch.randn(*shape, i, dtype=dtype),
        torch.randn(o, i, dtype=dtype),
        torch.randn(o, dtype=dtype),
        torch.randn(r, i, dtype=dtype),
        torch.randn(o, r, dtype=dtype),
        torch.randn(o, dtype=dtype),
    )
    return dict(zip(NAMES, values, strict=True))


def leaves(values, trains=TRAINS):
    return {name: value.clone().requires_grad_(name in trains) for name, value in values.items()}


def slow(x, weight, bias, a, b, m, s):
    """x W'^T + bias with W' = m * V / ||V||, V = W + s B A, and the norm held constant."""
    v = weight + s * b @ a
    return x @ (m[:, None] * v / v.detach().norm(dim=1, keepdim=True)).T + bias


def call(values, s=0.7, dropout=0.0, transposed=False):
    x, weight, *rest = values.values()
    weight = weight.t().contiguous() if transposed else weight
    return dora.dora_linear(x, weight, *rest, s, dropout, transposed)


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    i=st.integers(1, 6),
    o=st.integers(1, 6),
    r=st.integers(1, 4),
    trains=st.sets(st.sampled_from(TRAINS)),
    transposed=st.booleans(),
)
def test_values_and_each_gradient_equal_the_definition(shape, i, o, r, trains, transposed):
    values = operands(shape, i, o, r)
    fast, exact = leaves(values, trains), leaves(values, trains)
    y, expected = call(fast, transposed=transposed), slow(*exact.values(), 0.7)
    assert_close(y, expected, **CLOSE)
    assert y.requires_grad == bool(trains)
    if trains:
        upstream = torch.randn_like(y)
        y.backward(upstream)
        expected.backward(upstream)
    for name in NAMES:
        assert_close(fast[name].grad, exact[name].grad, **CLOSE, msg=name)


@settings(max_examples=30)
@given(
    i=st.integers(1, 9),
    o=st.integers(1, 9),
    r=st.integers(1, 9),
    s=st.floats(-4, 4, allow_nan=False),
    transposed=st.booleans(),
)
def test_factored_norm_equals_the_dense_one(i, o, r, s, transposed):
    _, weight, _, a, b, _ = operands(i=i, o=o, r=r).values()
    dense = (weight + s * b @ a).norm(dim=1)
    stored = weight.t().contiguous() if transposed else weight
    assert_close(dora.row_norms(stored, a, b, s, transposed), dense, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_norm_is_taken_in_at_least_float32_under_autocast_too(dtype):
    _, weight, _, a, b, _ = operands(i=50, o=40, dtype=torch.float32).values()
    weight = weight.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        norms = dora.row_norms(weight, a, b, 0.7, False)
    assert norms.dtype is torch.float32
    assert not norms.requires_grad
    dense = (weight.double() + 0.7 * b.double() @ a.double()).norm(dim=1)
    assert_close(norms.double(), dense, rtol=1e-6, atol=0)


def test_an_update_that_takes_the_weight_away_leaves_a_norm_near_zero_and_no_nan():
    torch.manual_seed(0)
    _, _, _, a, b, _ = operands(i=50, o=200, r=1, dtype=torch.float32).values()
    weight = -(b @ a)
    norms = dora.row_norms(weight, a, b, 1.0, False)
    assert (norms >= 0).all()
    assert (norms == 0).any(), "rounding leaves less than 0 in some of 200 rows"
    assert (norms < 2e-3 * weight.norm(dim=1)).all()


def test_without_weight_and_update_the_output_is_the_bias():
    _, _, bias, a, _, m = operands(dtype=torch.float32).values()
    y = dora.dora_linear(torch.ones(2, 5), torch.zeros(7, 5), bias, a, torch.zeros(7, 2), m, 1.0)
    assert_close(y, bias.expand(2, 7), **EXACT)


def test_a_row_of_zeros_can_be_trained():
    values = operands(dtype=torch.float32)
    values["weight"][2] = 0
    values["lora_B"].zero_()
    norms = dora.row_norms(values["weight"], values["lora_A"], values["lora_B"], 0.7, False)
    values["lora_magnitude_vector"] = norms
    trained = leaves(values)
    call(trained).sum().backward()
    assert trained["lora_B"].grad[2].abs().sum() > 0
    with torch.no_grad():
        trained["lora_B"] -= trained["lora_B"].grad
    trained["lora_magnitude_vector"].grad = None
    call(trained).square().sum().backward()
    assert trained["lora_magnitude_vector"].grad.isfinite().all()
    assert trained["lora_magnitude_vector"].grad[2] != 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_output_starts_as_the_layers_own_bit_for_bit(dtype, transposed):
    x, weight, bias, a, b, _ = operands((6,), 32, 24, dtype=dtype).values()
    a, b = a.float(), torch.zeros_like(b, dtype=torch.float32)
    stored = weight.t().contiguous() if transposed else weight
    m = dora.row_norms(stored, a, b, 0.7, transposed)
    y = dora.dora_linear(x, stored, bias, a, b, m, 0.7, transposed=transposed)
    assert_close(y, fused.lora_linear(x, stored, bias, a, b, 0.7, 0.0, transposed), **EXACT)
    merged = stored + dora.delta(stored, a, b, m, 0.7, transposed).to(dtype)
    assert_close(merged, stored, **EXACT)


def test_a_small_change_of_the_magnitude_keeps_its_digits_in_bfloat16():
    x, weight, _, a, b, _ = operands((64,), 32, 24, dtype=torch.bfloat16).values()
    a, b = a.float(), b.float()
    m = dora.row_norms(weight, a, b, 0.7, False) * 1.005  # of bfloat16's, 1.0078 is nearest
    y = dora.dora_linear(x, weight, None, a, b, m, 0.7)
    u = fused.lora_linear(x, weight, None, a, b, 0.7)
    exact = u.double() * 1.005
    assert (y - exact).abs().mean() < 0.7 * (u * 1.0078 - exact).abs().mean()


@pytest.mark.parametrize("transposed", [False, True])
def test_delta_is_what_the_definition_adds_to_the_weight(transposed):
    _, weight, _, a, b, m = operands().values()
    v = weight + 0.7 * b @ a
    expected = m[:, None] * v / v.norm(dim=1, keepdim=True) - weight
    stored = weight.t().contiguous() if transposed else weight
    found = dora.delta(stored, a, b, m, 0.7, transposed)
    assert_close(found.t() if transposed else found, expected, **CLOSE)


def test_passes_gradcheck_where_the_norm_is_constant():
    x, weight, bias, a, b, m = operands((2, 2), 3).values()

    def function(x, bias, m):
        return dora.dora_linear(x, weight, bias, a, b, m, 0.7)

    inputs = [value.requires_grad_() for value in (x, bias, m)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_dropout_is_on_the_low_rank_branch_alone():
    values = operands((4,), dtype=torch.float32)
    trained = leaves(values)
    torch.manual_seed(5)
    y = call(trained, dropout=0.5)
    torch.manual_seed(5)
    x, weight, bias, a, b, m = values.values()
    u = fused.lora_linear(x, weight, bias, a, b, 0.7, 0.5)
    n = (weight + 0.7 * b @ a).norm(dim=1)
    assert_close(y, (u - bias) * m / n + bias, **TOLERANCES[torch.float32])


@pytest.mark.parametrize("bias", [True, False])
def test_one_activation_is_kept_beside_the_input(bias):
    x, weight, b_O, a, b, m = operands((50,), 16, 16, 1, torch.float32).values()
    a, b, m = (tensor.requires_grad_() for tensor in (a, b, m))
    kept = {}

    def keep(tensor):
        if tensor.numel() >= x.numel():
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = dora.dora_linear(x, weight, b_O if bias else None, a, b, m, 0.7)
    assert sorted(kept.values()) == [x.numel(), y.numel()]


def test_output_may_be_changed_in_place():
    values = operands((4,))
    fast, exact = leaves(values), leaves(values)
    torch.relu_(call(fast)).sum().backward()
    torch.relu(slow(*exact.values(), 0.7)).sum().backward()
    for name in NAMES:
        assert_close(fast[name].grad, exact[name].grad, **CLOSE, msg=name)


def test_compiled_code_equals_eager_in_values_and_gradients():
    values = operands((6,), dtype=torch.float32)
    compiled = torch.compile(dora.dora_linear, fullgraph=True, backend="aot_eager")
    fast, eager = leaves(values), leaves(values)
    y, expected = compiled(*fast.values(), 0.7), call(eager)
    assert_close(y, expected, **TOLERANCES[torch.float32])
    y.square().sum().backward()
    expected.square().sum().backward()
    for name in NAMES:
        assert_close(fast[name].grad, eager[name].grad, rtol=1e-4, atol=1e-4, msg=name)
