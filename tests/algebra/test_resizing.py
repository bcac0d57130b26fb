"""Adapters of another rank: exact upwards, the best of the rank downwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.errors import ConfigError, MismatchError
from lorakit.variants import LinearSite, ModuleAdapter
from tests.algebra.adapters import SITES, adapter, bundle, relative, tokens, wide
from tests.checkpoint.bundles import assert_equal_tensors


@given(
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    r=st.integers(1, 8),
    rank=st.integers(1, 10),
    rslora=st.booleans(),
)
def test_lower_rank_is_the_best_and_the_scale_stays(
    seed: int, sizes: tuple[int, int], r: int, rank: int, rslora: bool
) -> None:
    torch.manual_seed(seed)
    value = adapter(LinearSite(*sizes), r, torch.float64, lora_alpha=5, use_rslora=rslora)
    outcome = lora.resize(bundle({"q": value}), rank=rank)
    found, dense = outcome.bundle.adapters["q"], wide(value)
    u, s, vt = torch.linalg.svd(dense, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    assert float((wide(found) - best).norm()) < 1e-9 * float(s.norm())
    assert found.spec.scaling == pytest.approx(value.spec.scaling, rel=1e-15)
    assert outcome.error.whole == pytest.approx(float(s[rank:].norm() / s.norm()), abs=1e-9)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_higher_rank_is_filled_up_with_zeros(name: str, dtype: torch.dtype) -> None:
    value = adapter(SITES[name], 2, dtype)
    outcome = lora.resize(bundle({name: value}), rank=6)
    larger = outcome.bundle.adapters[name]
    assert larger.shapes == value.variant.shapes(SITES[name], 6)
    torch.testing.assert_close(wide(larger), wide(value), rtol=1e-15, atol=1e-15)
    assert outcome.error.whole == 0
    for a, b in SITES[name].pairs(larger.tensors["lora_A"], larger.tensors["lora_B"]):
        dead = ~a.any(1)
        assert (int(dead.sum()), bool(b[:, dead].any())) == (len(a) * 4 // 6, False)


@pytest.mark.parametrize("name", SITES)
def test_the_same_rank_is_the_same_to_the_bit(name: str) -> None:
    given_ = bundle({name: adapter(SITES[name], 2, torch.bfloat16)})
    for outcome in (lora.resize(given_, rank=2), lora.resize(given_, energy=1.0)):
        assert outcome.error.whole == 0
        assert_equal_tensors(outcome.bundle.tensors, given_.tensors)


@pytest.mark.parametrize("narrow", ["lora_A", "lora_B"])
def test_factors_of_two_types_are_resized_in_the_wider_one(narrow: str) -> None:
    value = adapter(LinearSite(7, 5), 2)
    mixed = replace(value, tensors={**value.tensors, narrow: value.tensors[narrow].bfloat16()})
    outcome = lora.resize(bundle({"q": mixed}), rank=3)
    found = outcome.bundle.adapters["q"].tensors
    assert outcome.error.whole == 0
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert torch.equal(found["lora_B"][:, :2], mixed.tensors["lora_B"].float())


@given(seed=st.integers(0, 999), energy=st.sampled_from([0.3, 0.9, 0.99, 1.0]))
def test_energy_takes_the_least_rank_that_keeps_it(seed: int, energy: float) -> None:
    torch.manual_seed(seed)
    value = adapter(LinearSite(12, 10), 6)
    outcome = lora.resize(bundle({"q": value}), energy=energy)
    found = outcome.bundle.adapters["q"]
    kept = torch.linalg.svdvals(wide(value)).square().cumsum(0)
    kept = kept / kept[-1]
    assert kept[found.spec.r - 1] >= energy - 1e-12
    assert found.spec.r == 1 or kept[found.spec.r - 2] < energy
    assert 1 - outcome.error.whole**2 >= energy - 1e-6


def test_energy_gives_ranks_by_module_that_files_keep(tmp_path) -> None:
    torch.manual_seed(0)
    flat, steep = (adapter(LinearSite(12, 10), 4, use_rslora=True, lora_alpha=8) for _ in range(2))
    steep.tensors["lora_A"][2:] *= 1e-4
    outcome = lora.resize(bundle({"a.q": flat, "b.q": steep}), energy=0.999)
    write(outcome.bundle, tmp_path / "adapter")
    again = read(tmp_path / "adapter")
    assert {name: x.spec.r for name, x in again.adapters.items()} == {"a.q": 4, "b.q": 2}
    assert again.config.rank_pattern
    for name, value in outcome.bundle.adapters.items():
        torch.testing.assert_close(again.adapters[name].delta(), value.delta(), rtol=0, atol=0)
        assert again.adapters[name].spec.scaling == pytest.approx(4.0, rel=1e-15)


def test_slices_and_groups_share_the_rank_of_their_module() -> None:
    torch.manual_seed(0)
    value = adapter(SITES["slices"], 4)
    outcome = lora.resize(bundle({"c": value}), rank=1)
    dense = wide(value)
    expected = torch.zeros_like(dense)
    for start, stop in ((0, 4), (6, 9)):
        u, s, vt = torch.linalg.svd(dense[start:stop], full_matrices=False)
        expected[start:stop] = (u[:, :1] * s[:1]) @ vt[:1]
    assert relative(wide(outcome.bundle.adapters["c"]), expected) < 1e-6


def test_rows_heads_and_facts_stay() -> None:
    trained = {"head.weight": torch.randn(2, 2)}
    given_ = bundle(
        {"q": adapter(LinearSite(7, 5), 4), "embed": tokens([1, 3])},
        trained=trained,
        fingerprint={"float32": "ab"},
        num_labels=2,
    )
    small = lora.resize(given_, rank=1).bundle
    assert small.adapters["embed"] is given_.adapters["embed"]
    assert (small.trained, small.fingerprint, small.num_labels) == (trained, {"float32": "ab"}, 2)
    assert small.config.target_modules == ("q",)


def test_an_update_of_zero_stays_one() -> None:
    value = adapter(LinearSite(7, 5), 4)
    value.tensors["lora_B"].zero_()
    for options in ({"rank": 2}, {"energy": 0.9}):
        outcome = lora.resize(bundle({"q": value}), **options)
        assert not wide(outcome.bundle.adapters["q"]).any()
        assert outcome.error.whole == 0


def dora() -> ModuleAdapter:
    value = adapter(LinearSite(7, 5), 2, variant="dora")
    return replace(value, tensors={**value.tensors, "lora_magnitude_vector": torch.rand(5)})


def test_what_cannot_be_resized_is_in_one_error() -> None:
    given_ = bundle(
        {
            "q": dora(),
            "c": adapter(SITES["groups"], 2),
            "u": replace(adapter(LinearSite(7, 5), 2), site=None),
        }
    )
    with pytest.raises(MismatchError, match="cannot be resized") as caught:
        lora.resize(given_, rank=3)
    assert [problem.split()[0] for problem in caught.value.problems] == ["q", "c", "u:"]


def test_what_has_no_rank_cannot_be_resized() -> None:
    head = AdapterBundle(method="head", trained={"h": torch.ones(1)})
    with pytest.raises(MismatchError, match="it has no adapters with a rank"):
        lora.resize(head, rank=3)


@pytest.mark.parametrize("options", [{}, {"rank": 2, "energy": 0.5}, {"rank": 1.5}, {"rank": True}])
def test_invalid_sizes_are_refused(options) -> None:
    with pytest.raises(ConfigError, match="This size of an adapter cannot be used"):
        lora.resize(bundle({"q": adapter(LinearSite(7, 5), 2)}), **options)


def test_layers_with_one_problem_are_one_line() -> None:
    value = adapter(LinearSite(7, 5), 2, variant="dora")
    with pytest.raises(MismatchError, match="cannot be resized") as caught:
        lora.resize(bundle({f"h.{n}.q": value for n in range(32)}), rank=1)
    (problem,) = caught.value.problems
    assert problem.startswith("h.{0-31}.q is adapted by DoRA")
