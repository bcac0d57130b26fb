"""The embedding's update against one-hot vectors, and max_norm against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lorakit.functional import embedding
from tests.tolerances import EXACT, TOLERANCES

F64 = {"dtype": torch.float64}
CLOSE = TOLERANCES[torch.float64]
SIZES = st.integers(1, 6)


@settings(max_examples=40)
@given(SIZES, SIZES, SIZES, st.lists(st.integers(0, 3), max_size=3))
def test_low_rank_equals_the_one_hot_product_with_every_gradient(v, o, r, shape):
    ids = torch.randint(v, shape)
    values = torch.randn(r, v, **F64), torch.randn(o, r, **F64)
    a, b = (value.clone().requires_grad_() for value in values)
    a_slow, b_slow = (value.clone().requires_grad_() for value in values)
    y = embedding.low_rank(ids, a, b)
    expected = F.one_hot(ids, v).double() @ (b_slow @ a_slow).T
    assert_close(y, expected, **CLOSE)
    upstream = torch.randn_like(y)
    y.backward(upstream)
    expected.backward(upstream)
    assert_close(a.grad, a_slow.grad, **CLOSE)
    assert_close(b.grad, b_slow.grad, **CLOSE)


def test_low_rank_passes_gradcheck():
    ids = torch.tensor([[0, 2], [2, 4]])
    a, b = torch.randn(2, 5, **F64), torch.randn(3, 2, **F64)
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: embedding.low_rank(ids, a, b), inputs)


@given(SIZES, SIZES, SIZES)
@settings(max_examples=20)
def test_delta_is_the_table_of_all_updates(v, o, r):
    a, b = torch.randn(r, v, **F64), torch.randn(o, r, **F64)
    expected = 0.7 * embedding.low_rank(torch.arange(v), a, b)
    assert_close(embedding.delta(a, b, 0.7), expected, **CLOSE)


def test_the_padding_row_gets_no_gradient_and_the_others_do():
    ids = torch.tensor([0, 1, 1, 3])
    a = torch.randn(2, 5, **F64, requires_grad=True)
    b = torch.randn(3, 2, **F64)
    embedding.low_rank(ids, a, b, padding_idx=1).sum().backward()
    expected = torch.zeros_like(a)
    expected[:, [0, 3]] = b.sum(0)[:, None]
    assert_close(a.grad, expected, **CLOSE)


def test_scale_grad_by_freq_divides_by_the_count_in_the_batch():
    ids = torch.tensor([0, 1, 1, 1])
    a = torch.randn(2, 3, **F64, requires_grad=True)
    b = torch.randn(4, 2, **F64)
    embedding.low_rank(ids, a, b, scale_grad_by_freq=True).sum().backward()
    expected = torch.stack([b.sum(0), b.sum(0), torch.zeros(2, **F64)], dim=1)
    assert_close(a.grad, expected, **CLOSE)


def test_dropout_drops_the_update_of_whole_tokens():
    p, ids = 0.25, torch.zeros(400, 50, dtype=torch.long)
    a, b = torch.ones(1, 1, **F64), torch.ones(3, 1, **F64)
    y = embedding.low_rank(ids, a, b, dropout=p)
    assert_close(y, y[..., :1].expand_as(y), **EXACT)
    kept = y[..., 0] != 0
    assert_close(y[..., 0][kept], torch.full_like(y[..., 0][kept], 1 / (1 - p)), **CLOSE)
    deviation = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(kept.double().mean().item() - (1 - p)) < 5 * deviation


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_shorten_equals_torchs_renorm_bit_for_bit(norm_type, dtype):
    rows = torch.randn(300, 16).to(dtype)
    rows[0] = 0
    limit = float(torch.linalg.vector_norm(rows.double(), norm_type, dim=-1).median())
    expected, before = rows.clone(), rows.clone()
    torch.embedding_renorm_(expected, torch.arange(300), limit, norm_type)
    assert 100 < (expected != rows).any(1).sum() < 200
    assert_close(embedding.renorm(rows, limit, norm_type), expected, **EXACT)
    assert_close(rows, before, **EXACT)
