"""Rows of an embedding and of a head with values of their own, beside the slow definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.functional import token_rows as rows_of
from lorakit.functional.token_rows import delta, look_up, project, replace
from tests.tolerances import EXACT, TOLERANCES

FLOAT64 = TOLERANCES[torch.float64]


def table(size: int, width: int) -> Tensor:
    return torch.randn(size, width, dtype=torch.float64)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...], Tensor, Tensor]:
    """A weight, some of its rows in order, values for them, and ids."""
    size, width = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rows = tuple(sorted(draw(st.sets(st.integers(0, size - 1), min_size=1))))
    ids = draw(st.lists(st.integers(0, size - 1), max_size=6))
    torch.manual_seed(draw(st.integers(0, 5)))
    return table(size, width), rows, table(len(rows), width), torch.tensor(ids, dtype=torch.long)


@given(cases())
def test_embedding_and_its_gradient_are_those_of_the_whole_table(case) -> None:
    weight, rows, values, ids = case
    values.requires_grad_(True)
    fast = look_up(ids, F.embedding(ids, weight), rows, values)
    slow = F.embedding(ids, replace(weight, rows, values))
    assert_close(fast, slow, **EXACT)
    upstream = torch.randn_like(slow)
    grads = [torch.autograd.grad(y, values, upstream)[0] for y in (fast, slow)]
    assert_close(*grads, **FLOAT64)


@given(cases())
def test_head_and_its_gradients_are_those_of_the_whole_weight(case) -> None:
    weight, rows, values, _ = case
    x = table(3, weight.shape[1]).requires_grad_(True)
    values.requires_grad_(True)
    fast = project(x, F.linear(x, weight), weight, rows, values)
    slow = F.linear(x, replace(weight, rows, values))
    assert_close(fast, slow, **FLOAT64)
    upstream = torch.randn_like(slow)
    fast_grads, slow_grads = (torch.autograd.grad(y, (x, values), upstream) for y in (fast, slow))
    assert_close(fast_grads, slow_grads, **FLOAT64)


def test_gradcheck() -> None:
    weight, values = table(5, 3), table(2, 3).requires_grad_(True)
    x, ids = table(2, 3).requires_grad_(True), torch.tensor([4, 1, 1, 0])
    assert torch.autograd.gradcheck(
        lambda v: look_up(ids, F.embedding(ids, weight), (1, 4), v), values
    )
    assert torch.autograd.gradcheck(
        lambda a, v: project(a, F.linear(a, weight), weight, (1, 4), v), (x, values)
    )


@pytest.mark.parametrize("padding", [None, 1, 2])
def test_padding_and_frequencies_are_those_of_the_whole_table(padding: int | None) -> None:
    weight, values = table(6, 2), table(2, 2).requires_grad_(True)
    ids = torch.tensor([1, 1, 1, 4, 0, 0, 2])
    rows = (1, 4)
    fast = look_up(ids, F.embedding(ids, weight), rows, values, padding, scale_grad_by_freq=True)
    whole = replace(weight, rows, values)
    slow = F.embedding(ids, whole, padding, scale_grad_by_freq=True)
    grads = [torch.autograd.grad(y.sum(), values, retain_graph=True)[0] for y in (fast, slow)]
    assert_close(*grads, **FLOAT64)


def test_the_update_is_the_difference_in_these_rows_alone() -> None:
    weight, values = table(5, 3), table(2, 3)
    update = delta(weight, (0, 3), values)
    assert_close(weight + update, replace(weight, (0, 3), values), **FLOAT64)
    assert not update[[1, 2, 4]].any()


def test_values_at_the_start_change_no_bit() -> None:
    weight = torch.randn(6, 4).bfloat16()
    x, ids, rows = torch.randn(3, 4).bfloat16(), torch.arange(6), (2, 5)
    values = weight[rows_of.index(rows, weight.device)].float()
    y = F.linear(x, weight)
    assert_close(project(x, y, weight, rows, values), y, **EXACT)
    y = F.embedding(ids, weight)
    assert_close(look_up(ids, y, rows, values), y, **EXACT)
