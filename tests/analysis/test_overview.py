"""The whole analysis: of every kind of weight, beside others, and what is refused."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.analysis import adapted_values, analyze
from lorakit.analysis.readiness import chosen
from lorakit.checkpoint import AdapterBundle
from lorakit.errors import ConfigError, MismatchError
from lorakit.text import to_json
from lorakit.variants import LinearSite, ModuleAdapter, SlicedSite
from tests.analysis.adapters import (
    SITES,
    dora,
    random_adapter,
    random_weight,
    tokens,
    written_out,
)
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]


def every_kind(r: int = 2, seed: int = 0) -> dict[str, ModuleAdapter]:
    return {kind: random_adapter(site, r, seed) for kind, site in SITES.items()}


def layers(count: int, r: int = 2, seed: int = 0) -> dict[str, ModuleAdapter]:
    return {
        f"layer.{n}.{leaf}": random_adapter(LinearSite(6, 5), r, seed + 10 * n)
        for n in range(count)
        for leaf in ("q", "v")
    }


@pytest.mark.parametrize("kind", SITES)
def test_similarity_of_two_adapters_is_that_of_their_matrices(kind: str) -> None:
    site = SITES[kind]
    mine, theirs = random_adapter(site, 2), random_adapter(site, 4, seed=1)
    (compared,) = analyze({"m": mine}, against={"other": {"m": theirs}}).comparisons
    updates = zip(written_out(site, mine), written_out(site, theirs), strict=True)
    found = {(one.name, one.of): one for one in compared.similarities}
    for n, (here, there) in enumerate(updates):
        u, v = (torch.linalg.svd(dense, full_matrices=False) for dense in (here, there))
        name = list(dict.fromkeys(one.name for one in compared.similarities))[n]
        for of, left, right in (
            ("dW, input", u.Vh.t(), v.Vh.t()),
            ("dW, output", u.U, v.U),
        ):
            similar = found[name, of]
            i, j = len(similar.phi), len(similar.phi[0])
            phi = (left[:, :i].t() @ right[:, :j]).norm() ** 2 / min(i, j)
            assert similar.phi[-1][-1] == pytest.approx(float(phi))
            assert similar.width == len(left)


def test_similarity_of_the_factors_is_that_of_the_paper() -> None:
    mine, theirs = random_adapter(LinearSite(9, 7), 2), random_adapter(LinearSite(9, 7), 4, seed=1)
    (compared,) = analyze({"m": mine}, against={"other": {"m": theirs}}).comparisons
    a1, a2 = (
        torch.linalg.svd(one.tensors["lora_A"].double(), full_matrices=False).Vh.t()
        for one in (mine, theirs)
    )
    phi = next(one.phi for one in compared.similarities if one.of == "A")
    assert (len(phi), len(phi[0])) == (2, 4)
    for i in (1, 2):
        for j in (1, 2, 3, 4):
            expected = (a1[:, :i].t() @ a2[:, :j]).norm() ** 2 / min(i, j)
            assert phi[i - 1][j - 1] == pytest.approx(float(expected))


def test_an_adapter_beside_itself_shares_all_directions() -> None:
    adapters = every_kind()
    (compared,) = analyze(adapters, against={"itself": adapters}).comparisons
    for one in compared.similarities:
        assert_close(torch.tensor(one.phi).diagonal(), torch.ones(len(one.phi)), **CLOSE)


def test_similarity_is_symmetric_in_the_adapters() -> None:
    one, other = layers(1, 2), layers(1, 3, seed=5)
    there, back = (
        analyze(a, against={"x": b}).comparisons[0].similarities
        for a, b in ((one, other), (other, one))
    )
    for first, second in zip(there, back, strict=True):
        assert_close(torch.tensor(first.phi), torch.tensor(second.phi).t(), **CLOSE)


def test_controls_have_the_widths_and_the_most_directions() -> None:
    one = {"a": random_adapter(LinearSite(6, 5), 2), "b": random_adapter(LinearSite(6, 5), 4)}
    other = {"a": random_adapter(LinearSite(6, 5), 3), "b": random_adapter(LinearSite(6, 5), 1)}
    (compared,) = analyze(one, against={"x": other}).comparisons
    shapes = {c.width: (len(c.mean), len(c.mean[0])) for c in compared.controls}
    assert shapes == {5: (4, 3), 6: (4, 3)}
    assert compared.control_of(compared.similarities[0]).width == 6


def test_an_update_of_zero_has_no_directions_and_no_projection() -> None:
    adapter = random_adapter(LinearSite(6, 5))
    zero = adapter.with_factors(adapter.tensors["lora_A"], torch.zeros(5, 2))
    weights = {"m": random_weight(LinearSite(6, 5))}
    found = analyze({"m": zero}, weights, {"other": {"m": adapter}})
    phi = {one.of: len(one.phi) for one in found.comparisons[0].similarities}
    assert phi == {"A": 2, "B": 0, "dW, input": 0, "dW, output": 0}
    assert found.matrices[0].projection is None
    assert set(found.matrices[0].spectrum.sufficient_ranks.values()) == {0}
    assert "-" in str(found)


def test_adapters_of_every_variant_are_analysed_beside_their_weights() -> None:
    weight, table = random_weight(LinearSite(11, 7)), random_weight(LinearSite(5, 13))
    adapters = {"q": dora(weight), "e": tokens((2, 5), 13, 5)}
    found = analyze(adapters, {"q": weight, "e": table})
    assert [matrix.rank for matrix in found.matrices] == [2, 2]
    for matrix, adapter, base in zip(
        found.matrices, adapters.values(), (weight, table), strict=True
    ):
        dense = adapter.delta(base).double()
        assert matrix.spectrum.norm == pytest.approx(float(dense.norm()), rel=1e-6)
        assert matrix.projection is not None


def test_values_of_a_live_model_are_its_adapters_and_weights() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["1"], init_lora_weights=False))
    adapters, weights = adapted_values(model)
    assert list(adapters) == list(weights) == ["1"]
    assert weights["1"] is model[1].weight
    (matrix,) = analyze(adapters, weights).matrices
    assert matrix.projection is not None
    assert matrix.spectrum.norm == pytest.approx(adapters["1"].norm(), rel=1e-5)


def test_weights_and_factors_are_left_as_they_are() -> None:
    adapters, weights = layers(1), {"layer.0.q": random_weight(LinearSite(6, 5))}
    before = {name: dict(adapter.tensors) for name, adapter in adapters.items()}
    copies = {name: {n: t.clone() for n, t in tensors.items()} for name, tensors in before.items()}
    analyze(adapters, weights)
    for name, tensors in copies.items():
        assert all(torch.equal(before[name][leaf], tensor) for leaf, tensor in tensors.items())


def test_module_names_are_given_out_one_by_one() -> None:
    seen: list[str] = []

    def track(names):
        for name in names:
            seen.append(name)
            yield name

    analyze(layers(2), track=track)
    assert seen == ["layer.0.q", "layer.0.v", "layer.1.q", "layer.1.v"]


def test_analysis_is_json_without_nan() -> None:
    weights = {"layer.0.q": random_weight(LinearSite(6, 5))}
    found = analyze(layers(1), weights, {"other": layers(1, 3)})
    assert "null" in to_json(asdict(found))  # the projection of v, whose weight is not there
    assert "NaN" not in to_json(asdict(found))


def test_no_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match="There is no adapter to analyse"):
        analyze({})


def test_one_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="draws is 1; it must be at least 2"):
        analyze(layers(1), draws=1)


def test_updates_that_need_the_base_are_named_with_what_to_pass() -> None:
    unknown = replace(random_adapter(LinearSite(6, 5)), site=None)
    adapters = {
        **{f"layer.{n}.q": dora(torch.randn(7, 11)) for n in range(3)},
        "e": tokens((2,), 13, 5),
        "x": unknown,
        "layer.0.v": random_adapter(LinearSite(6, 5)),
    }
    with pytest.raises(ConfigError) as refused:
        analyze(adapters)
    assert refused.value.problems == (
        "layer.{0-2}.q has an update that depends on the base's weight: DoRA",
        "e has an update that depends on the base's weight: trainable tokens",
        "x is a layer of a type that the file does not say",
    )
    assert "--base MODEL" in refused.value.headline


def test_other_modules_and_shapes_are_listed() -> None:
    mine = layers(4) | {"out": random_adapter(LinearSite(6, 5))}
    theirs = {name: adapter for name, adapter in layers(4).items() if not name.endswith(".v")}
    theirs |= {"out": random_adapter(LinearSite(8, 5)), "head": random_adapter(LinearSite(6, 5))}
    with pytest.raises(MismatchError) as refused:
        analyze(mine, against={"runs/other": theirs})
    assert "runs/other does not adapt the same modules" in str(refused.value)
    assert set(refused.value.problems) == {
        "layer.{0-3}.v is not in it",
        "head is in it alone",
        "out has 5 x 8 in it, here 5 x 6",
    }


def test_other_slices_are_a_mismatch() -> None:
    sliced, whole = random_adapter(SITES["slices"]), random_adapter(LinearSite(11, 15))
    other = random_adapter(SlicedSite(11, 15, slices=((5, True), (7, True), (3, False))))
    here = "here 5 x 11 in [0:5] and 7 x 11 in [8:15]"
    for theirs, there in ((whole, "15 x 11"), (other, "5 x 11 in [0:5] and 7 x 11 in [5:12]")):
        with pytest.raises(MismatchError, match=re.escape(f"m has {there} in it, {here}")):
            analyze({"m": sliced}, against={"x": {"m": theirs}})


def test_modules_are_chosen_by_the_ends_of_their_names() -> None:
    bundle = AdapterBundle(adapters=layers(2))
    assert list(chosen(bundle, "x", ["v"])) == ["layer.0.v", "layer.1.v"]
    assert list(chosen(bundle, "x", ["1.q", "layer.0.v"])) == ["layer.0.v", "layer.1.q"]
    assert chosen(bundle, "x") == bundle.adapters
    with pytest.raises(ConfigError) as refused:
        chosen(bundle, "runs/x", ["v", "qq"])
    assert "runs/x adapts no module of these names; it adapts q, v" in str(refused.value)
    assert refused.value.problems == ("qq (did you mean 'q'?)",)


@pytest.mark.parametrize("method", ["full", "bitfit", "houlsby", "prefix_layer"])
def test_a_method_without_adapters_is_refused_with_those_that_can_be(method: str) -> None:
    bundle = AdapterBundle(method=method, trained={"w": torch.ones(2)})
    with pytest.raises(ConfigError) as refused:
        chosen(bundle, "runs/other")
    assert str(refused.value) == (
        f"runs/other was trained with the method {method}, whose file has no low-rank updates to "
        "analyse; those of LoRA, DoRA, LoRA with a bias, trainable tokens are."
    )


def test_no_matrix_of_the_weight_s_size_is_formed() -> None:
    site = LinearSite(200_000, 300_000)  # dW would have 480 GB
    mine, theirs = random_adapter(site, 2), random_adapter(site, 3, seed=1)
    found = analyze({"m": mine}, against={"other": {"m": theirs}}, draws=2)
    assert found.matrices[0].shape == (300_000, 200_000)
    assert [len(one.phi) for one in found.comparisons[0].similarities] == [2, 2, 2, 2]
