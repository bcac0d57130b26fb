"""The fused operation against its definition: values, each gradient, what it keeps and draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from lorakit.errors import StateError
from lorakit.functional import fused, linear, slices
from lorakit.functional.dropout import draw_seed, keep_mask
from lorakit.functional.slices import Slices
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}
CLOSE = TOLERANCES[torch.float64]
NAMES = ("x", "weight", "bias", "lora_A", "lora_B")
QV: Slices = ((4, True), (3, False), (2, True))


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    """A few tokens take the definition; here they stand for many."""
    monkeypatch.setattr(fused, "FEW", -1)


def operands(shape, i=5, o=9, r=2, parts=None, dtype=torch.float64):
    pairs = sum(adapted for _, adapted in parts) if parts else 1
    rows = sum(slices.adapted_heights(parts)) if parts else o
    values = (
        torch.randn(*shape, i, dtype=dtype),
        torch.randn(o, i, dtype=dtype),
        torch.randn(o, dtype=dtype),
        torch.randn(pairs * r, i, dtype=dtype),
        torch.randn(rows, r, dtype=dtype),
    )
    return dict(zip(NAMES, values, strict=True))


def slow(x, weight, bias, a, b, s, parts=None):
    """x (W + s B A)^T + bias, in float64 and written out slice by slice."""
    dw = slices.delta(a, b, s, parts) if parts else s * b @ a
    return x @ (weight + dw).T + bias


def leaves(values, trains=("x", "bias", "lora_A", "lora_B")):
    return {name: value.clone().requires_grad_(name in trains) for name, value in values.items()}


def call(values, s=0.7, dropout=0.0, transposed=False, parts=None):
    x, weight, *rest = values.values()
    weight = weight.t().contiguous() if transposed else weight
    return fused.lora_linear(x, weight, *rest, s, dropout, transposed, parts)


@settings(max_examples=30)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    trains=st.sets(st.sampled_from(["x", "bias", "lora_A", "lora_B"])),
    transposed=st.booleans(),
    parts=st.sampled_from([None, QV]),
)
def test_values_and_each_gradient_equal_the_definition(shape, trains, transposed, parts):
    values = operands(shape, parts=parts)
    fast, exact = leaves(values, trains), leaves(values, trains)
    y = call(fast, transposed=transposed, parts=parts)
    expected = slow(*exact.values(), 0.7, parts)
    assert_close(y, expected, **CLOSE)
    assert y.requires_grad == bool(trains)
    if trains:
        upstream = torch.randn_like(y)
        y.backward(upstream)
        expected.backward(upstream)
    for name in NAMES:
        assert_close(fast[name].grad, exact[name].grad, **CLOSE, msg=name)


@pytest.mark.parametrize("parts", [None, QV])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_passes_gradcheck_and_gradgradcheck(parts, dropout):
    def function(x, bias, a, b):
        torch.manual_seed(0)  # the same mask each time
        return fused.lora_linear(x, weight, bias, a, b, 0.7, dropout, False, parts)

    x, weight, *rest = operands([2, 2], 3, parts=parts).values()
    inputs = [value.requires_grad_() for value in (x, *rest)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("parts", [None, QV])
def test_dropout_with_its_mask_equals_the_definition_bit_for_bit(parts):
    """Small whole numbers and p = 1/2: every sum is exact, so any order of products agrees."""
    values = {n: v.mul(2).round() for n, v in operands([7, 3], parts=parts).items()}
    values = {n: v.float() for n, v in values.items()}
    fast, exact = leaves(values), leaves(values)
    torch.manual_seed(3)
    y = call(fast, s=2.0, dropout=0.5, parts=parts)
    torch.manual_seed(3)
    mask = keep_mask(values["x"], 0.5, draw_seed())
    assert 0 < mask.sum() < mask.numel()
    x, weight, bias, a, b = exact.values()
    dw = slices.delta(a, b, 2.0, parts) if parts else 2.0 * b @ a
    expected = x @ weight.T + bias + (x * mask / 0.5) @ dw.T
    assert_close(y, expected, **EXACT)
    upstream = torch.randint(-3, 4, y.shape).float()
    y.backward(upstream)
    expected.backward(upstream)
    for name in NAMES:
        assert_close(fast[name].grad, exact[name].grad, **EXACT, msg=name)


def test_a_frozen_part_gets_no_gradient_and_costs_no_memory():
    """Kept beside the parameters: x where A trains, h where only B does."""
    kept = {}
    for trains in [("x",), ("x", "lora_A"), ("x", "lora_B"), ("x", "lora_A", "lora_B")]:
        values = leaves(operands([64], 16, 24, 2), trains)
        packed = kept_shapes(lambda values=values: call(values), values)
        kept[trains[1:]] = sorted(packed)
    x, h = (64, 16), (2, 64)
    assert kept[()] == []
    assert kept["lora_A",] == [x]
    assert kept["lora_B",] == [h]
    assert kept["lora_A", "lora_B"] == [x]


def kept_shapes(run, values):
    """Shapes of what a forward keeps for backward, parameters left out."""
    parameters = {v.data_ptr() for n, v in values.items() if n != "x"}
    shapes: list[tuple[int, ...]] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return shapes


@pytest.mark.parametrize("view", ["transposed", "strided"])
def test_keeps_the_input_itself_and_never_a_copy(view):
    values = leaves(operands([6, 4]))
    x = torch.randn(4, 6, 5, **F64).transpose(0, 1) if view == "transposed" else None
    x = torch.randn(6, 8, 5, **F64)[:, ::2] if x is None else x
    values["x"] = x.requires_grad_()
    pointers = set()

    def pack(tensor: Tensor) -> Tensor:
        pointers.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = call(values, dropout=0.3)
    assert x.data_ptr() in pointers
    assert len(pointers) == 4  # x, W, A and B
    assert y.shape == (6, 4, 9)


@pytest.mark.parametrize(
    ("change", "small"),
    [("none", True), ("large", False), ("strided", False), ("dropout", False), ("autocast", False)],
)
def test_a_small_input_takes_single_operations_that_keep_x_itself(change, small, monkeypatch):
    monkeypatch.setattr(fused, "FEW", 24)
    values = leaves(operands([5 if change == "large" else 4], 6, dtype=torch.float32))
    if change == "strided":
        values["x"] = torch.randn(4, 12)[:, ::2].requires_grad_()
    sizes: dict[int, torch.Size] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.data_ptr()] = tensor.shape
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"),
    ):
        y = call(values, dropout=0.5 if change == "dropout" else 0.0)
    assert (type(y.grad_fn).__name__ != "_FusedLinearBackward") == small
    for parameter in ("weight", "lora_A", "lora_B"):
        sizes.pop(values[parameter].data_ptr(), None)
    assert values["x"].data_ptr() in sizes
    assert [tuple(size) for size in sizes.values() if size[-1] == 6] == [values["x"].shape]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("autocast", [False, True])
def test_no_tokens_give_zero_gradients(dropout, autocast):
    values = leaves(operands([2, 0], dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = call(values, dropout=dropout)
    y.sum().backward()
    assert y.shape == (2, 0, 9)
    assert values["x"].grad.shape == (2, 0, 5)
    for name in ("bias", "lora_A", "lora_B"):
        assert not values[name].grad.any(), name


def test_a_layer_without_data_has_an_output_without_data():
    values = operands([4], dtype=torch.bfloat16)
    y = call({name: value.to("meta") for name, value in values.items()})
    assert (y.shape, y.device.type) == ((4, 9), "meta")


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("autocast", [False, True])
def test_16_bit_base_with_float32_adapters(dropout, autocast):
    """Computes in bfloat16, gives float32 gradients of A and B, keeps no float32 activation."""
    values = operands([32], 64, 48, 4, dtype=torch.float32)
    values["lora_A"] /= 8
    if not autocast:
        values |= {n: values[n].bfloat16() for n in ("x", "weight", "bias")}
    fast = leaves(values)
    kept: list[Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        torch.manual_seed(0)
        y = call(fast, dropout=dropout)
    assert y.dtype == torch.bfloat16
    known = {t.data_ptr() for t in fast.values()}
    assert all(t.dtype == torch.bfloat16 for t in kept if t.data_ptr() not in known)
    y.backward(torch.ones_like(y))
    assert fast["lora_A"].grad.dtype == fast["lora_B"].grad.dtype == torch.float32
    assert fast["x"].grad.dtype == values["x"].dtype
    exact = leaves({n: v.double() for n, v in values.items()})
    x, weight, bias, a, b = exact.values()
    torch.manual_seed(0)
    mask = keep_mask(x, dropout, draw_seed()) / (1 - dropout) if dropout else 1.0
    expected = x @ weight.T + bias + 0.7 * ((x * mask) @ a.T) @ b.T
    expected.backward(torch.ones_like(expected))
    for name, size in (("x", 10), ("bias", 30), ("lora_A", 50), ("lora_B", 10)):
        difference = (fast[name].grad.double() - exact[name].grad).abs().max()
        assert difference <= 0.02 * max(size, float(exact[name].grad.abs().max())), name


def test_backward_inside_autocast_runs_in_the_types_of_forward():
    values = operands([4], dtype=torch.float32)
    fast, exact = leaves(values), leaves(values)
    call(fast).sum().backward()
    y = call(exact)
    with torch.autocast("cpu", torch.bfloat16):
        y.sum().backward()
    for name in NAMES:
        assert_close(fast[name].grad, exact[name].grad, **EXACT, msg=name)


def test_a_small_update_is_not_lost_in_16_bits():
    """1 + 0.001 is 1 in bfloat16: with W + s B A formed there, y would be 1 - 1 = 0."""
    x = torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16).expand(64, 2)
    weight = torch.ones(1, 2, dtype=torch.bfloat16)
    a, b = torch.tensor([[1e-3, 0.0]]), torch.ones(1, 1)
    y = fused.lora_linear(x, weight, None, a, b, 1.0)
    assert_close(y.float(), torch.full((64, 1), 1e-3), rtol=1e-2, atol=0)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_draws_the_same_mask_again(reentrant):
    values = operands([6])
    plain, again = leaves(values), leaves(values)
    torch.manual_seed(5)
    expected = call(plain, dropout=0.5)
    torch.manual_seed(5)
    y = checkpoint(
        lambda x: call({**again, "x": x}, dropout=0.5), again["x"], use_reentrant=reentrant
    )
    assert_close(y, expected, **EXACT)
    y.sum().backward()
    expected.sum().backward()
    for name in NAMES:
        assert_close(again[name].grad, plain[name].grad, **EXACT, msg=name)


def test_drawing_is_the_same_with_and_without_gradient():
    values = operands([6])
    torch.manual_seed(5)
    with torch.no_grad():
        first, after = call(values, dropout=0.5), torch.rand(())
    torch.manual_seed(5)
    second = call(leaves(values), dropout=0.5)
    assert_close(first, second.detach(), **EXACT)
    assert torch.rand(()) == after


def test_double_backward_with_a_frozen_a_is_refused():
    values = leaves(operands([3]), ("x", "lora_B"))
    y = call(values)
    with pytest.raises(StateError, match="not supported while lora_A is frozen"):
        torch.autograd.grad(y.sum(), values["x"], create_graph=True)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_weight_that_trains_takes_the_definition(dropout):
    values = leaves(operands([3]), NAMES)
    torch.manual_seed(1)
    y = call(values, dropout=dropout)
    torch.manual_seed(1)
    expected = linear.lora_linear(*values.values(), 0.7, dropout)
    assert_close(y, expected, **EXACT)
    (gradient,) = torch.autograd.grad(y.sum(), values["weight"])
    assert gradient.abs().sum() > 0


def test_transforms_of_torch_func_see_through_it():
    x, weight, bias, a, b = operands([3]).values()

    def loss(a, b):
        return fused.lora_linear(x, weight, bias, a, b, 0.7).square().sum()

    expected = torch.autograd.functional.jacobian(
        lambda a, b: slow(x, weight, bias, a, b, 0.7).square().sum(), (a, b)
    )
    for ours, theirs in zip(torch.func.grad(loss, (0, 1))(a, b), expected, strict=True):
        assert_close(ours, theirs, **CLOSE)
    stacked = torch.func.vmap(loss)(torch.stack([a, 2 * a]), torch.stack([b, b]))
    assert_close(stacked, torch.stack([loss(a, b), loss(2 * a, b)]), **CLOSE)
    with torch.no_grad():
        outputs = torch.func.vmap(lambda a: fused.lora_linear(x, weight, bias, a, b, 0.7))(a[None])
        assert_close(outputs[0], slow(x, weight, bias, a, b, 0.7), **CLOSE)


# torch's own formulas of forward mode are written in TorchScript.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_agrees_with_the_definition():
    x, weight, bias, a, b = operands([3]).values()
    tangent = torch.randn_like(a)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a, tangent)
        y = fused.lora_linear(x, weight, bias, dual, b, 0.7)
        moved = torch.autograd.forward_ad.unpack_dual(y).tangent
    assert_close(moved, 0.7 * x @ tangent.T @ b.T, **CLOSE)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("parts", [None, QV])
def test_compiled_without_graph_breaks_equals_eager(gradient, parts):
    values = operands([3], parts=parts, dtype=torch.float32)
    eager, compiled = leaves(values), leaves(values)
    function = torch.compile(fused.lora_linear, fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(gradient):
        expected = call(eager, parts=parts)
        y = function(*compiled.values(), 0.7, 0.0, False, parts)
    assert_close(y, expected, **TOLERANCES[torch.float32])
    if gradient:
        y.sum().backward()
        expected.sum().backward()
        for name in NAMES:
            assert_close(
                compiled[name].grad, eager[name].grad, **TOLERANCES[torch.float32], msg=name
            )


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("adapter", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_few_tokens_without_gradient_give_what_they_give_with_one(base, adapter, autocast):
    values = operands([3], 16, 8, 2, dtype=base)
    values |= {n: values[n].to(adapter) for n in ("lora_A", "lora_B")}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with torch.no_grad():
            straight = call(values)
        y = call(leaves(values))
    assert straight.dtype == y.dtype
    tolerance = TOLERANCES[y.dtype]
    assert_close(straight, y.detach(), rtol=4 * tolerance["rtol"], atol=8 * tolerance["atol"])
