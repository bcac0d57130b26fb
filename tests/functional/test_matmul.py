"""The product by oneDNN against the product in float64, and where torch's own is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from lorakit.functional import fused, matmul
from tests.tolerances import TOLERANCES

ONEDNN = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
SIZES = st.integers(1, 40)


class Operators(TorchDispatchMode):
    """The names of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def onednn(self) -> int:
        return self.names.count("mkldnn::_linear_pointwise")


def matrix(rows, columns, layout):
    made = {
        "plain": lambda: torch.randn(rows, columns),
        "transposed": lambda: torch.randn(columns, rows).t(),
        "part": lambda: torch.randn(rows, columns + 3)[:, 2:-1],
        "transposed part": lambda: torch.randn(columns, rows + 3)[:, 2:-1].t(),
        "expanded": lambda: torch.randn(1, 1).expand(rows, columns),
        "windows": lambda: torch.randn(rows + columns).unfold(0, columns, 1)[:rows],
    }
    return made[layout]()


LAYOUTS = ("plain", "transposed", "part", "transposed part", "expanded", "windows")


@given(SIZES, SIZES, SIZES, *[st.sampled_from(LAYOUTS)] * 2)
@settings(max_examples=100)
def test_equals_the_product_in_float64_whatever_the_layout(m, k, n, left, right):
    a, b = matrix(m, k, left), matrix(k, n, right)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(matmul, "LEAST", 0)
        y = matmul.matmul(a, b)
    expected = (a.double() @ b.double()).float()
    assert_close(y, expected, **TOLERANCES[torch.float32])


@pytest.mark.skipif(not ONEDNN, reason="torch was built without MKL or oneDNN")
@pytest.mark.parametrize(
    "change", ["none", "small", "gradient", "bfloat16", "float64", "switched off"]
)
def test_onednn_computes_large_float32_products_that_need_no_gradient(change, monkeypatch):
    side = 101 if change == "small" else 102  # 101^3 < 2^20 < 102^3
    a, b = torch.randn(side, side), torch.randn(side, side)
    if change in ("bfloat16", "float64"):
        a, b = a.to(getattr(torch, change)), b.to(getattr(torch, change))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", change != "switched off")
    with torch.set_grad_enabled(change == "gradient"), Operators() as operators:
        matmul.matmul(a, b)
    assert operators.onednn == (change == "none")


@pytest.mark.skipif(not ONEDNN, reason="torch was built without MKL or oneDNN")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_factor_with_gaps_between_its_rows_stays_with_torch(layout):
    with torch.no_grad(), Operators() as operators:
        matmul.matmul(torch.randn(128, 128), matrix(128, 128, layout))
    assert operators.onednn == (layout in ("plain", "transposed"))


@pytest.mark.skipif(not ONEDNN, reason="torch was built without MKL or oneDNN")
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_an_adapted_layer_has_the_same_gradients_with_and_without_it(
    dropout, transposed, monkeypatch
):
    """The input gradient, and every product with a side of the rank, may come from oneDNN."""
    monkeypatch.setattr(fused, "FEW", -1)
    results = []
    for least in (0, 2**60):
        monkeypatch.setattr(matmul, "LEAST", least)
        torch.manual_seed(0)
        x, weight, bias = torch.randn(3, 20, 16), torch.randn(24, 16), torch.randn(24)
        weight = weight.t().contiguous() if transposed else weight
        a, b = torch.randn(4, 16), torch.randn(24, 4)
        leaves = [t.requires_grad_() for t in (x, bias, a, b)]
        with Operators() as operators:
            y = fused.lora_linear(x, weight, bias, a, b, 0.7, dropout, transposed)
            y.sin().sum().backward()
        results.append((y, *(leaf.grad for leaf in leaves)))
        expected = 6 + bool(dropout)  # h in forward; h, g, dx, dA and dB; g A for its mask
        assert operators.onednn == (expected if least == 0 else 0)
    for one, other in zip(*results, strict=True):
        assert_close(one, other, **TOLERANCES[torch.float32])


def test_slices_have_the_same_gradients_with_and_without_it(monkeypatch):
    """A slice of the gradient has gaps between its rows, and that of a sum one number for all."""
    monkeypatch.setattr(fused, "FEW", -1)
    results = []
    for least in (0, 2**60):
        monkeypatch.setattr(matmul, "LEAST", least)
        torch.manual_seed(0)
        x, weight = torch.randn(20, 16), torch.randn(24, 16)
        a, b = torch.randn(8, 16), torch.randn(16, 4)
        leaves = [t.requires_grad_() for t in (x, a, b)]
        parts = ((8, True), (8, False), (8, True))
        fused.lora_linear(x, weight, None, a, b, 0.7, parts=parts).sum().backward()
        results.append([leaf.grad for leaf in leaves])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, **TOLERANCES[torch.float32])
