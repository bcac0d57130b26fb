"""Spectra against their definitions on dense matrices."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakit.analysis.matrices import analysed, rank_choices
from lorakit.analysis.parts import parts_of
from lorakit.analysis.spectrum import spectrum_of
from lorakit.variants import LinearSite
from tests.analysis.adapters import random_adapter, written_out

sizes = st.integers(1, 9)


@given(o=sizes, r=sizes, i=sizes, seed=st.integers(0, 99))
def test_error_of_each_rank_is_that_of_the_nearest_matrix(
    o: int, r: int, i: int, seed: int
) -> None:
    site = LinearSite(i, o)
    adapter = random_adapter(site, r, seed)
    (dense,) = written_out(site, adapter)
    (part,) = parts_of("m", adapter, None)
    spectrum = spectrum_of(part.update.values_K)
    left, values, right = torch.linalg.svd(dense, full_matrices=False)
    assert spectrum.norm == pytest.approx(float(dense.norm()))
    for rank in range(min(o, r, i) + 1):
        nearest = left[:, :rank] @ values[:rank].diag() @ right[:rank]
        error = float((dense - nearest).norm() / dense.norm())
        assert spectrum.error_at(rank) == pytest.approx(error, abs=1e-12)


@given(values=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9))
def test_spectrum_holds_its_definitions(values: list[float]) -> None:
    values = sorted(values, reverse=True)
    found = spectrum_of(torch.tensor(values, dtype=torch.float64))
    shares = [value / sum(values) for value in values]
    entropy = -sum(p * math.log(p) for p in shares)
    assert found.effective_rank == pytest.approx(math.exp(entropy))
    assert found.stable_rank == pytest.approx(sum(v * v for v in values) / values[0] ** 2)
    assert found.stable_rank >= 1 - 1e-12
    assert found.stable_rank <= len(values) * (1 + 1e-12)
    assert found.truncation_errors[0] == 1
    assert found.truncation_errors[-1] == found.error_at(100) == 0
    assert list(found.truncation_errors) == sorted(found.truncation_errors, reverse=True)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_effective_rank_of_equal_values_is_their_number(count: int) -> None:
    found = spectrum_of(torch.full((count,), 0.5, dtype=torch.float64))
    assert (found.effective_rank, found.stable_rank) == pytest.approx((count, count))


def test_sufficient_ranks_are_the_least_below_10_5_and_1_percent() -> None:
    values = torch.tensor([1.0, 0.08, 0.04, 0.005], dtype=torch.float64)
    assert spectrum_of(values).sufficient_ranks == {0.1: 1, 0.05: 2, 0.01: 3}


def test_spectrum_of_no_update_is_zero() -> None:
    found = spectrum_of(torch.zeros(2))
    assert (found.norm, found.effective_rank, found.stable_rank) == (0, 0, 0)
    assert found.sufficient_ranks == {0.1: 0, 0.05: 0, 0.01: 0}
    assert found.truncation_errors == (0, 0, 0)


def test_error_of_the_whole_adapter_is_that_of_all_updates_together() -> None:
    sites = LinearSite(11, 7), LinearSite(5, 9)
    adapters = [random_adapter(sites[0], 3), random_adapter(sites[1], 2, seed=1, alpha=9)]
    parts = [next(parts_of("m", adapter, None)) for adapter in adapters]
    choices = rank_choices([analysed(part, 2, 0) for part in parts])
    dense = [written_out(*pair)[0] for pair in zip(sites, adapters, strict=True)]
    tails = [torch.linalg.svdvals(matrix)[1:].norm() for matrix in dense]
    norms = [matrix.norm() for matrix in dense]
    assert [choice.rank for choice in choices] == [0, 1, 2, 3]
    assert choices[0].error == choices[0].worst_error == pytest.approx(1)
    assert choices[1].error == pytest.approx(math.hypot(*tails) / math.hypot(*norms))
    assert choices[1].worst_error == pytest.approx(max(map(float, map(torch.div, tails, norms))))
    assert choices[3].error == choices[3].worst_error == 0
