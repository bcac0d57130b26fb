"""Weighted sums of adapters against the sums of their dense updates, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lorakit as lora
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.config import LoraConfig
from lorakit.variants import LinearSite, ModuleAdapter, SlicedSite
from tests.algebra.adapters import SITES, SLICES, adapter, bundle, defined, relative, tokens, wide
from tests.checkpoint.bundles import assert_equal_tensors

ROUNDING = 1e-6
"""Relative, of a sum whose B is rounded to float32 once."""
ALPHAS = st.sampled_from([1, 3, 16, 0.5])


@st.composite
def addends(draw: st.DrawFn) -> list[tuple[AdapterBundle, float]]:
    """Of one to three adapters, each of some of the modules, ranks and alphas by module."""
    torch.manual_seed(draw(st.integers(0, 999)))
    terms = []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(list(SITES)), min_size=1, unique=True))
        rslora = draw(st.booleans())
        adapters = {
            name: adapter(
                SITES[name],
                2 * draw(st.integers(1, 2)),
                lora_alpha=draw(ALPHAS),
                use_rslora=rslora,
            )
            for name in names
        }
        terms.append((bundle(adapters), draw(st.sampled_from([0.7, -1.5, 1.0, 0.0, 2]))))
    if not any(weight for _, weight in terms):
        terms[0] = (terms[0][0], 0.3)
    return terms


@given(terms=addends())
def test_sum_is_that_of_the_dense_updates(terms: list[tuple[AdapterBundle, float]]) -> None:
    outcome = lora.combine(terms)
    names = {name for x, weight in terms if weight for name in x.adapters}
    assert set(outcome.bundle.adapters) == names
    for name, total in outcome.bundle.adapters.items():
        expected = defined(terms, name)
        assert relative(wide(total), expected) < ROUNDING
        assert total.shapes == total.variant.shapes(SITES[name], total.spec.r)
        assert outcome.bundle.config.rank_of(name) == total.spec.r
        assert outcome.bundle.config.alpha_of(name) == total.spec.lora_alpha
    assert outcome.error.whole < ROUNDING


@given(
    seed=st.integers(0, 999),
    sizes=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    rank=st.integers(1, 8),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_cut_sum_is_the_best_of_its_rank_and_its_error_is_stated(
    seed: int, sizes: tuple[int, int], ranks: list[int], rank: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    site = LinearSite(*sizes)
    terms = [(bundle({"q": adapter(site, r, dtype, lora_alpha=3)}), 1.0 + n) for n, r in
             enumerate(ranks)]  # fmt: skip
    outcome = lora.combine(terms, rank=rank)
    expected = defined(terms, "q")
    values = torch.linalg.svdvals(expected)
    best = float(values[rank:].norm() / values.norm())
    found = relative(wide(outcome.bundle.adapters["q"]), expected)
    rounding = {torch.float64: 1e-9, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    assert found == pytest.approx(best, abs=rounding)
    assert outcome.error.modules["q"] == pytest.approx(found, rel=2e-2, abs=rounding / 100)
    assert outcome.error.whole == outcome.error.modules["q"]
    assert outcome.bundle.adapters["q"].spec.r == rank
    assert outcome.bundle.adapters["q"].tensors["lora_A"].dtype == dtype


@pytest.mark.parametrize("name", SITES)
def test_cut_sum_of_every_kind_of_layer_has_the_error_that_it_states(name: str) -> None:
    torch.manual_seed(3)
    site = SITES[name]
    terms = [(bundle({name: adapter(site, 2)}), 0.5), (bundle({name: adapter(site, 4)}), -2.0)]
    outcome = lora.combine(terms, rank=2)
    total = outcome.bundle.adapters[name]
    assert (total.site, total.spec.r) == (site, 2)
    found = relative(wide(total), defined(terms, name))
    assert outcome.error.modules[name] == pytest.approx(found, rel=1e-5, abs=1e-9)


def test_energy_gives_each_module_its_own_rank() -> None:
    torch.manual_seed(0)
    site = LinearSite(20, 20)
    flat, steep = adapter(site, 4), adapter(site, 4)
    steep.tensors["lora_A"][1:] *= 1e-3
    outcome = lora.combine([(bundle({"flat": flat, "steep": steep}), 2.0)], energy=0.99)
    ranks = {name: x.spec.r for name, x in outcome.bundle.adapters.items()}
    assert ranks == {"flat": 4, "steep": 1}
    assert outcome.error.modules["steep"] < 0.1


def test_error_of_the_whole_counts_modules_by_their_norms() -> None:
    torch.manual_seed(0)
    site = LinearSite(20, 20)
    terms = [(bundle({"a": adapter(site, 4, lora_alpha=400), "b": adapter(site, 4)}), 3.0)]
    outcome = lora.combine(terms, rank=2)
    missed = sum(float((defined(terms, n) - wide(x)).square().sum()) for n, x in
                 outcome.bundle.adapters.items())  # fmt: skip
    norm = sum(float(defined(terms, n).square().sum()) for n in "ab")
    assert outcome.error.whole == pytest.approx(math.sqrt(missed / norm), rel=1e-5)
    assert outcome.error.whole == pytest.approx(outcome.error.modules["a"], rel=1e-2)


# --- one adapter at weight 1


def every_variant() -> dict[str, AdapterBundle]:
    found = {name: bundle({name: adapter(site, 2, torch.bfloat16, use_rslora=True)})
             for name, site in SITES.items()}  # fmt: skip
    dora = adapter(LinearSite(7, 5), 2, variant="dora")
    dora = replace(dora, tensors={**dora.tensors, "lora_magnitude_vector": torch.rand(5)})
    found["DoRA"] = bundle({"q": dora})
    found["tokens"] = bundle({"embed": tokens([2, 5])})
    trained = {"head.weight": torch.randn(3, 4), "q.bias": torch.randn(5)}
    config = LoraConfig(modules_to_save=["head"], bias="lora_only")
    found["head and biases"] = bundle(
        {"q": adapter(LinearSite(7, 5), 2)}, trained=trained, config=config, num_labels=3
    )
    found["loralib"] = bundle({"q": replace(adapter(LinearSite(7, 5), 2), site=None)})
    found["another method"] = AdapterBundle(method="head", trained=trained, format="lorakit")
    return found


@pytest.mark.parametrize("name", every_variant())
@pytest.mark.parametrize("zeros", [0, 1])
def test_one_adapter_at_weight_1_is_itself(name: str, zeros: int) -> None:
    given = every_variant()[name]
    other = bundle({"q": adapter(LinearSite(3, 3), 1)})
    outcome = lora.combine([(given, 1.0), *[(other, 0.0)] * zeros])
    assert outcome.bundle is given
    assert (outcome.error.whole, outcome.error.modules) == (0, {})


@pytest.mark.parametrize("name", sorted(every_variant().keys() - {"loralib", "another method"}))
def test_a_module_that_only_one_adapter_of_weight_1_has_stays_as_it_is(name: str) -> None:
    given = every_variant()[name]
    site = LinearSite(3, 3)
    other = bundle({"other": adapter(site, 1)})
    if name == "DoRA":
        dora = adapter(site, 1, variant="dora")
        magnitude = {"lora_magnitude_vector": torch.rand(3)}
        other = bundle({"other": replace(dora, tensors={**dora.tensors, **magnitude})})
    outcome = lora.combine([(given, 1), (other, 1)])
    assert_equal_tensors(outcome.bundle.tensors, {**given.tensors, **other.tensors})
    for module, value in given.adapters.items():
        kept = outcome.bundle.adapters[module]
        assert kept.spec.scaling == pytest.approx(value.spec.scaling, rel=1e-15)
    assert outcome.error == lora.combine([(given, 1)]).error


# --- what a sum says of itself


def test_sum_is_written_and_read_again(tmp_path) -> None:
    torch.manual_seed(0)
    one = bundle({"a.q": adapter(LinearSite(7, 5), 2, use_rslora=True), "a.v": adapter(
        LinearSite(7, 5), 4, lora_alpha=9, use_rslora=True)})  # fmt: skip
    other = bundle({"a.q": adapter(LinearSite(7, 5), 3)})
    outcome = lora.combine([(one, 1), (other, -0.5)])
    write(outcome.bundle, tmp_path / "sum")
    again = read(tmp_path / "sum")
    assert_equal_tensors(again.tensors, outcome.bundle.tensors)
    for name, value in outcome.bundle.adapters.items():
        assert again.adapters[name].spec.scaling == value.spec.scaling
    assert again.config.target_modules == ("a.q", "a.v")
    assert again.base_model == "org/base"


def test_sum_of_slices_and_a_whole_weight_is_a_whole_weight() -> None:
    torch.manual_seed(0)
    whole, sliced = LinearSite(7, 9, transposed=True), SlicedSite(7, 9, slices=SLICES)
    terms = [(bundle({"c": adapter(sliced, 2)}), 0.5), (bundle({"c": adapter(whole, 3)}), 2.0)]
    total = lora.combine(terms).bundle.adapters["c"]
    assert (total.site, total.spec.r) == (whole, 7)
    halves = wide(terms[0][0].adapters["c"]).t() / 2 + wide(terms[1][0].adapters["c"]) * 2
    assert relative(wide(total), halves) < ROUNDING


def test_head_of_one_adapter_comes_with_what_it_says_of_the_model() -> None:
    site, head = LinearSite(7, 5), {"head.weight": torch.randn(3, 4)}
    config = LoraConfig(modules_to_save=["head"])
    one = bundle({"q": adapter(site, 2)}, trained=head, config=config, num_labels=3,
                 task_type="SEQ_CLS")  # fmt: skip
    other = bundle({"q": adapter(site, 2)}, task_type="CAUSAL_LM")
    total = lora.combine([(other, 0.25), (one, 1.0)]).bundle
    assert torch.equal(total.trained["head.weight"], head["head.weight"])
    assert (total.num_labels, total.task_type) == (3, "SEQ_CLS")
    assert total.config.modules_to_save == ("head",)


def test_the_same_head_stays_where_the_weights_add_up_to_1() -> None:
    head = {"head.weight": torch.randn(3, 4)}
    terms = [
        (bundle({"q": adapter(LinearSite(7, 5), 2)}, trained=head), weight) for weight in (0.7, 0.3)
    ]
    assert torch.equal(lora.combine(terms).bundle.trained["head.weight"], head["head.weight"])


def test_dtype_is_the_widest_of_the_adapters() -> None:
    site = LinearSite(7, 5)
    terms = [(bundle({"q": adapter(site, 2, dtype)}), 0.5) for dtype in
             (torch.bfloat16, torch.float16)]  # fmt: skip
    assert lora.combine(terms).bundle.adapters["q"].tensors["lora_B"].dtype == torch.float32


def test_outcome_prints_ranks_and_errors() -> None:
    torch.manual_seed(0)
    adapters: dict[str, ModuleAdapter] = {f"{n}.q": adapter(LinearSite(9, 9), 4) for n in range(14)}
    text = str(lora.combine([(bundle(adapters), 2.0)], rank=2))
    assert text.splitlines()[0].startswith("14 modules, relative error 0.")
    assert "module  rank  relative error" in text
    assert "and 2 modules with at most" in text
    alone = str(lora.combine([(bundle(adapters), 1.0)]))
    assert alone == "14 modules, relative error 0: the same to the bit"
