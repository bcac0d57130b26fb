"""The base in the directions of its update, against dense matrices in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lorakit.analysis import projection as projections
from lorakit.analysis.parts import Part, parts_of
from lorakit.analysis.projection import Projection, projected_norm, projection
from lorakit.analysis.subspaces import random_basis
from lorakit.variants import LinearSite
from tests.analysis.adapters import (
    SITES,
    matrices,
    random_adapter,
    random_weight,
    tokens,
    written_out,
)

sizes, seeds = st.integers(2, 9), st.integers(0, 99)


def projected(part: Part, weight: Tensor | None = None) -> Projection:
    base = part.weight if weight is None else weight
    assert base is not None
    return projection(base, part.update, part.update_rank, draws=3, seed=0)


def part_of(o: int, i: int, seed: int = 0, r: int = 2) -> Part:
    site = LinearSite(i, o)
    weight = random_weight(site, seed + 100).double()
    return next(parts_of("m", random_adapter(site, r, seed), weight))


@pytest.mark.parametrize("kind", SITES)
def test_projection_holds_its_definition(kind: str) -> None:
    site = SITES[kind]
    adapter, weight = random_adapter(site), random_weight(site)
    parts, updates = parts_of("m", adapter, weight), written_out(site, adapter)
    for part, dw, w in zip(parts, updates, matrices(site, weight.double()), strict=True):
        found, k = projected(part), part.rank
        u, _, vt = torch.linalg.svd(dw)
        inner = float((u[:, :k].t() @ w @ vt[:k].t()).norm())
        assert found.rank == k
        assert found.on_update == pytest.approx(inner)
        assert found.amplification == pytest.approx(float(dw.norm()) / inner)
        assert found.weight_norm == pytest.approx(float(w.norm()))
        u, _, vt = torch.linalg.svd(w)
        assert found.on_weight == pytest.approx(float((u[:, :k].t() @ w @ vt[:k].t()).norm()))


def test_random_control_is_the_mean_and_deviation_of_random_directions() -> None:
    part = part_of(30, 20)
    assert part.weight is not None
    found = projection(part.weight, part.update, 2, draws=400, seed=0)
    expected = 2 * found.weight_norm / (30 * 20) ** 0.5  # E||U^T W V||^2 = k^2 ||W||^2 / (O I)
    squares = found.on_random**2 + found.on_random_deviation**2 * 399 / 400
    assert squares == pytest.approx(expected**2, rel=0.1)
    assert found.draws == 400


@given(o=sizes, i=sizes, seed=seeds)
def test_amplification_is_inverse_to_the_base_and_proportional_to_the_update(
    o: int, i: int, seed: int
) -> None:
    part = part_of(o, i, seed)
    assert part.weight is not None
    found = projected(part)
    assert found.amplification is not None
    assert projected(part, 4 * part.weight).amplification == pytest.approx(found.amplification / 4)
    larger = part.update._replace(values_K=part.update.values_K * 3)
    grown = projection(part.weight, larger, part.update_rank, 3, 0)
    assert grown.amplification == pytest.approx(found.amplification * 3)
    both = projection(part.weight * 3, larger, part.update_rank, 3, 0)
    assert both.amplification == pytest.approx(found.amplification)


@given(o=sizes, i=sizes, seed=seeds)
def test_amplification_does_not_depend_on_the_axes(o: int, i: int, seed: int) -> None:
    part, draw = part_of(o, i, seed), torch.Generator().manual_seed(seed)
    assert part.weight is not None
    p, q = random_basis(o, o, draw), random_basis(i, i, draw)
    update = part.update
    turned = update._replace(left_OK=p @ update.left_OK, right_IK=q @ update.right_IK)
    here, there = (
        projection(weight, update, part.update_rank, 3, 0).amplification
        for weight, update in ((part.weight, update), (p @ part.weight @ q.t(), turned))
    )
    assert there == pytest.approx(here)


@given(o=sizes, i=sizes, seed=seeds)
def test_no_directions_hold_more_of_the_base_than_its_own(o: int, i: int, seed: int) -> None:
    found = projected(part_of(o, i, seed))
    slack = 1 + 1e-9
    assert found.on_update <= found.on_weight * slack
    assert found.on_weight <= found.weight_norm * slack


def test_amplification_of_what_the_base_does_not_have_is_none() -> None:
    site = LinearSite(3, 3)
    adapter = random_adapter(site, 1).with_factors(torch.eye(1, 3), torch.eye(3, 1))
    weight = torch.diag(torch.tensor([0.0, 2.0, 3.0]))
    (part,) = parts_of("m", adapter, weight)
    assert (projected(part).on_update, projected(part).amplification) == (0, None)


def test_tokens_are_projected_on_as_many_directions_as_there_are() -> None:
    weight = random_weight(LinearSite(5, 13)).double()
    (part,) = parts_of("m", tokens((2, 5), 13, 5), weight)
    assert projected(part).rank == 2


def test_blocks_of_a_large_weight_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = part_of(9, 7)
    whole = projected(part)
    monkeypatch.setattr(projections, "_NUMBERS", 15)
    assert projected(part).on_weight == pytest.approx(whole.on_weight)
    assert projected(part).on_update == pytest.approx(whole.on_update)


def test_projected_norm_reads_a_narrow_weight_exactly() -> None:
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    axes = torch.eye(6).double()[:, :4], torch.eye(4).double()
    assert projected_norm(weight, *axes) == pytest.approx(float(weight[:4].double().norm()))
