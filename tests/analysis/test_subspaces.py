"""phi against its definition, its properties, and what chance gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lorakit.analysis.subspaces import control, random_basis, similarity
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]
counts, seeds = st.integers(1, 6), st.integers(0, 99)


def bases(width: int, i: int, j: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return random_basis(width, i, draw), random_basis(width, j, draw)


@given(width=st.integers(6, 11), i=counts, j=counts, seed=seeds)
def test_similarity_holds_its_definition(width: int, i: int, j: int, seed: int) -> None:
    left, right = bases(width, i, j, seed)
    found = similarity(left, right)
    assert found.shape == (i, j)
    for m in range(1, i + 1):
        for n in range(1, j + 1):
            phi = (left[:, :m].t() @ right[:, :n]).norm() ** 2 / min(m, n)
            assert_close(found[m - 1, n - 1], phi, **CLOSE)


@given(width=st.integers(6, 11), i=counts, j=counts, seed=seeds)
def test_similarity_is_one_less_the_projection_metric_squared_over_p(
    width: int, i: int, j: int, seed: int
) -> None:
    left, right = bases(width, i, j, seed)
    cosines, p = torch.linalg.svdvals(left.t() @ right), min(i, j)
    squared_distance = p - cosines.square().sum()
    assert_close(similarity(left, right)[-1, -1], 1 - squared_distance / p, **CLOSE)


@given(width=st.integers(6, 11), i=counts, j=counts, seed=seeds)
def test_similarity_is_between_zero_and_one_and_symmetric(
    width: int, i: int, j: int, seed: int
) -> None:
    left, right = bases(width, i, j, seed)
    found = similarity(left, right)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12
    assert_close(found, similarity(right, left).t(), **CLOSE)


@given(width=st.integers(6, 11), i=counts, seed=seeds)
def test_similarity_of_a_subspace_with_itself_is_one(width: int, i: int, seed: int) -> None:
    basis, _ = bases(width, i, 1, seed)
    assert_close(similarity(basis, basis).diagonal(), torch.ones(i).double(), **CLOSE)


@given(width=st.integers(6, 11), i=counts, j=counts, seed=seeds)
def test_similarity_does_not_depend_on_the_axes(width: int, i: int, j: int, seed: int) -> None:
    left, right = bases(width, i, j, seed)
    turned, _ = bases(width, width, 1, seed + 1)
    assert_close(similarity(turned @ left, turned @ right), similarity(left, right), **CLOSE)


def test_similarity_of_orthogonal_subspaces_is_zero_and_of_contained_ones_one() -> None:
    axes = torch.eye(6).double()
    assert not similarity(axes[:, :2], axes[:, 2:]).any()
    assert similarity(axes[:, :2], axes[:, :4])[-1, -1] == 1


def test_control_is_the_larger_number_of_directions_over_the_width() -> None:
    found = control(40, 3, 10, draws=200, seed=0)
    expected = [[max(i, j) / 40 for j in range(1, 11)] for i in range(1, 4)]
    standard_error = torch.tensor(found.deviation) / 200**0.5
    away = (torch.tensor(found.mean) - torch.tensor(expected)).abs()
    assert (away < 4 * standard_error).all()
    assert found == control(40, 3, 10, draws=200, seed=0)
    assert (found.width, found.draws) == (40, 200)


def test_control_of_more_directions_than_there_are_is_one() -> None:
    assert control(3, 5, 3, draws=2, seed=0).mean[-1][-1] == pytest.approx(1)
