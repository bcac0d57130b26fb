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
    if layout == "transposed":
        return torch.randn(columns, rows).t()
    if layout == "part":
        return torch.randn(rows, columns + 3)[:, 2:-1]
    return torch.randn(rows, columns)


@given(SIZES, SIZES, SIZES, *[st.sampled_from(["plain", "transposed", "part"])] * 2)
@settings(max_examples=60)
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
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("formed", [False, True])
def test_an_adapted_layer_has_the_same_gradients_with_and_without_it(dropout, formed, monkeypatch):
    """The input gradient, and every product with a side of the rank, may come from oneDNN."""
    monkeypatch.setattr(fused, "FEW", 0)
    monkeypatch.setattr(fused, "forming_pays", lambda *_: formed)
    results = []
    for least in (0, 2**60):
        monkeypatch.setattr(matmul, "LEAST", least)
        torch.manual_seed(0)
        x, weight, bias = torch.randn(3, 20, 16), torch.randn(24, 16), torch.randn(24)
        a, b = torch.randn(4, 16), torch.randn(24, 4)
        leaves = [t.requires_grad_() for t in (x, bias, a, b)]
        with Operators() as operators:
            y = fused.lora_linear(x, weight, bias, a, b, 0.7, dropout)
            y.sin().sum().backward()
        results.append((y, *(leaf.grad for leaf in leaves)))
        assert (operators.onednn >= 5) == (least == 0)  # g, h, dx, dA, dB
    for one, other in zip(*results, strict=True):
        assert_close(one, other, **TOLERANCES[torch.float32])
