"""TIES, DARE and magnitude pruning against their definitions, number by number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lorakit as lora
from lorakit.algebra.methods import METHODS, drop
from lorakit.checkpoint import AdapterBundle
from lorakit.variants import LinearSite
from tests.algebra.adapters import SITES, adapter, bundle, defined, relative, wide

FULL = 5
"""The rank of any update of these layers."""
SITE = LinearSite(7, FULL)


def terms() -> list[tuple[AdapterBundle, float]]:
    torch.manual_seed(5)
    return [(bundle({"q": adapter(SITE, 2)}), weight) for weight in (0.5, 1.0, -2.0)]


def trimmed(update: Tensor, density: float) -> Tensor:
    """The definition: what is not among the largest becomes zero."""
    order = update.abs().flatten().argsort(descending=True)
    result = update.flatten().clone()
    result[order[int(density * update.numel()) :]] = 0
    return result.view_as(update)


def ties(updates: list[Tensor]) -> Tensor:
    """Section 3 of the paper, with loops."""
    result = torch.zeros_like(updates[0])
    for place in range(result.numel()):
        values = [float(update.flatten()[place]) for update in updates]
        elected = 1 if sum(values) > 0 else -1
        agreeing = [value for value in values if value * elected > 0]
        result.view(-1)[place] = sum(agreeing) / len(agreeing) if agreeing else 0
    return result


def test_ties_is_that_of_its_paper() -> None:
    outcome = lora.combine(terms(), rank=FULL, method="ties", density=0.4)
    updates = [trimmed(wide(x.adapters["q"]), 0.4) * weight for x, weight in terms()]
    assert relative(wide(outcome.bundle.adapters["q"]), ties(updates)) < 1e-6
    assert outcome.error.whole < 1e-6


def test_magnitude_pruning_adds_the_largest_numbers() -> None:
    outcome = lora.combine(terms(), rank=FULL, method="magnitude_prune", density=0.4)
    expected = sum(trimmed(wide(x.adapters["q"]), 0.4) * weight for x, weight in terms())
    assert relative(wide(outcome.bundle.adapters["q"]), expected) < 1e-6


def test_a_fifth_is_kept_by_default() -> None:
    one, other = (
        lora.combine(terms(), rank=FULL, method="ties", **options).bundle
        for options in ({}, {"density": 0.2})
    )
    assert torch.equal(one.adapters["q"].delta(), other.adapters["q"].delta())


def test_dare_keeps_numbers_at_random_and_their_expectation() -> None:
    update = torch.ones(100_000)
    found = drop(update, 0.3, torch.Generator().manual_seed(0))
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.3])
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)


def test_dare_follows_its_seed_and_leaves_torchs_own_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    given = terms()
    torch.set_rng_state(state)
    deltas = [
        lora.combine(given, rank=FULL, method="dare_linear", density=0.5, seed=seed)
        .bundle.adapters["q"]
        .delta()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(deltas[0], deltas[1])
    assert not torch.equal(deltas[0], deltas[2])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("site", SITES)
def test_cut_result_has_the_error_that_it_states(name: str, site: str) -> None:
    torch.manual_seed(0)
    given = [(bundle({site: adapter(SITES[site], 2)}), weight) for weight in (0.5, 0.75)]
    whole = lora.combine(given, rank=36, method=name, density=0.6).bundle.adapters[site]
    outcome = lora.combine(given, rank=2, method=name, density=0.6)
    cut = outcome.bundle.adapters[site]
    assert (cut.site, cut.spec.r) == (SITES[site], 2)
    found = relative(wide(cut), wide(whole))
    assert outcome.error.modules[site] == pytest.approx(found, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["dare_linear", "magnitude_prune"])
def test_density_1_is_the_weighted_sum(name: str) -> None:
    outcome = lora.combine(terms(), method=name, density=1)
    total = outcome.bundle.adapters["q"]
    assert total.spec.r == 6
    assert relative(wide(total), defined(terms(), "q")) < 1e-6


def test_energy_bounds_the_rank_of_a_method() -> None:
    outcome = lora.combine(terms(), energy=0.8, method="ties", density=0.5)
    assert 1 <= outcome.bundle.adapters["q"].spec.r < FULL
    assert 1 - outcome.error.whole**2 >= 0.8


def test_a_module_of_one_adapter_goes_through_the_method_too() -> None:
    given = [(bundle({"q": adapter(SITE, 2)}), 1.0)]
    total = lora.combine(given, rank=FULL, method="ties", density=0.4).bundle.adapters["q"]
    expected = trimmed(wide(given[0][0].adapters["q"]), 0.4)
    assert relative(wide(total), expected) < 1e-6
