"""The decomposition of a product from its factors against that of the dense product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import svd
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
sizes = st.integers(1, 9)


def factors(o: int, r: int, i: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(r, i, generator=draw), torch.randn(o, r, generator=draw)
    return a.double(), b.double()


@given(o=sizes, r=sizes, i=sizes, s=st.sampled_from([2.0, -0.5, 0.0]), seed=st.integers(0, 99))
def test_decomposition_is_that_of_the_dense_product(
    o: int, r: int, i: int, s: float, seed: int
) -> None:
    a, b = factors(o, r, i, seed)
    found, k = svd.decompose(a, b, s), min(o, r, i)
    dense = s * b @ a
    assert_close(found.left_OK @ found.values_K.diag() @ found.right_IK.t(), dense, **CLOSE)
    assert_close(found.values_K, torch.linalg.svdvals(dense)[:k], **CLOSE)
    for columns in (found.left_OK, found.right_IK):
        assert_close(columns.t() @ columns, torch.eye(k, dtype=torch.float64), **CLOSE)
    assert_close(svd.singular_values(a, b, s), found.values_K, **CLOSE)


@pytest.mark.parametrize("case", ["dependent", "graded", "nearly cancelling", "zero"])
def test_first_vectors_of_a_hard_product_are_as_exact_as_those_of_the_dense_one(case: str) -> None:
    (a, b), kept = factors(o=60, r=8, i=50, seed=0), 5
    if case == "graded":
        a = torch.logspace(0, -12, 8, dtype=a.dtype)[:, None] * a
    else:
        less = {"dependent": 1.0, "nearly cancelling": -1 + 1e-6, "zero": -1.0}[case]
        a, b = torch.cat([a, a]), torch.cat([b, less * b], dim=1)
    found, dense = svd.decompose(a, b, 2.0, kept), 2.0 * b @ a
    u, values, vt = torch.linalg.svd(dense, full_matrices=False)
    best = (u[:, :kept] * values[:kept]) @ vt[:kept]
    assert_close((found.left_OK * found.values_K[:kept]) @ found.right_IK.t(), best, **CLOSE)
    assert_close(found.values_K[:8], values[:8], **CLOSE)
    for columns in (found.left_OK, found.right_IK):
        assert_close(columns.t() @ columns, torch.eye(kept, dtype=torch.float64), **CLOSE)


def test_singular_values_of_bfloat16_factors_are_float32() -> None:
    a, b = factors(5, 2, 7, seed=0)
    narrow = a.bfloat16(), b.bfloat16()
    assert svd.singular_values(*narrow, 1.0).dtype == torch.float32
    wide = [matrix.double() for matrix in narrow]
    expected = torch.linalg.svdvals(wide[1] @ wide[0])[:2].float()
    assert_close(svd.decompose(*narrow, 1.0).values_K, expected, **TOLERANCES[torch.float32])
