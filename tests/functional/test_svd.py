"""The decomposition of a product from its factors against that of the dense product."""

from __future__ import annotations

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


def test_singular_values_of_bfloat16_factors_are_float32() -> None:
    a, b = factors(5, 2, 7, seed=0)
    narrow = a.bfloat16(), b.bfloat16()
    assert svd.singular_values(*narrow, 1.0).dtype == torch.float32
    wide = [matrix.double() for matrix in narrow]
    expected = torch.linalg.svdvals(wide[1] @ wide[0])[:2].float()
    assert_close(svd.decompose(*narrow, 1.0).values_K, expected, **TOLERANCES[torch.float32])
