"""Sites against the layers that stand on them, and adapters as values against dense matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import StateError
from lorakit.layers.conversion import adapt, site_of
from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    OutProjSite,
    ParameterSite,
    Site,
    SlicedSite,
)
from tests.tolerances import TOLERANCES

FP64 = TOLERANCES[torch.float64]

SITES: dict[str, Site] = {
    "linear": LinearSite(7, 5),
    "transposed": LinearSite(7, 5, transposed=True),
    "slices": SlicedSite(7, 9, slices=((4, True), (2, False), (3, True))),
    "transposed slices": SlicedSite(7, 9, True, ((4, True), (2, False), (3, True))),
    "embedding": EmbeddingSite(9, 4),
    "kernel": ConvSite((6, 4, 3, 2)),
    "groups": ConvSite((6, 4, 3), groups=2),
    "square": ConvSite((6, 4, 3, 3), square=True),
    "in_proj": InProjSite(4, 12),
    "out_proj": OutProjSite(4, 4),
    "experts": ParameterSite(7, 5, 3),
    "transposed experts": ParameterSite(7, 5, 3, transposed=True),
    "parameter": ParameterSite(7, 5),
}


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> Site:
    return SITES[request.param]


def random_adapter(site: Site, r: int = 2, **settings: object) -> ModuleAdapter:
    tensors = map(torch.randn, site.factor_shapes(r))
    named = {name: t.double() for name, t in zip(("lora_A", "lora_B"), tensors, strict=True)}
    return ModuleAdapter(AdapterSpec(r, 3, **settings), named, site)  # type: ignore[arg-type]


def test_product_has_the_weight_s_shape(site: Site) -> None:
    assert random_adapter(site).delta().shape == site.weight_shape


def test_factors_start_with_a_product_of_zero_and_the_shapes_they_say(site: Site) -> None:
    a, b = site.initial_factors(torch.randn(site.weight_shape), 2, True)
    assert (tuple(a.shape), tuple(b.shape)) == site.factor_shapes(2)
    assert not site.product(a, b, 1.0).any()
    assert a.any() or b.any()


def dense(matrix: Tensor, site: Site) -> Tensor:
    """dW as the matrix or matrices whose singular values count: (out, in), by slice or group."""
    if isinstance(site, ConvSite) and not site.square:
        return matrix.flatten(1)
    return matrix.reshape(-1, matrix.shape[-1])


def test_norm_is_that_of_the_dense_change(site: Site) -> None:
    adapter = random_adapter(site)
    assert adapter.norm() == pytest.approx(float(adapter.delta().norm()), rel=1e-9)


def test_parts_of_the_change_are_the_products_of_its_pairs(site: Site) -> None:
    adapter = random_adapter(site)
    parts = list(site.parts(adapter.delta()))
    for (span, part), (a, b) in zip(parts, adapter.factors(), strict=True):
        assert_close(b @ a, part, **FP64)
        assert site.kind == "conv" or span[1] - span[0] == len(part)
    assert sum(part.square().sum() for _, part in parts) == pytest.approx(adapter.norm() ** 2)


@pytest.mark.parametrize("height", [5, 9])
def test_factors_of_a_change_of_full_rank_multiply_to_it(height: int) -> None:
    layer = lora.Linear(7, height, r=2, variant="dora").double()
    with torch.no_grad():
        layer.lora_B.normal_()
        layer.lora_magnitude_vector.mul_(1.5)
    ((a, b),) = layer.adapter.factors(layer.weight)
    assert (a.shape[0], b.shape[1]) == (min(7, height),) * 2
    assert_close(b @ a, layer.delta_weight(), **FP64)


@pytest.mark.parametrize("name", ["linear", "transposed", "embedding", "kernel", "in_proj"])
def test_singular_values_are_those_of_the_dense_change(name: str) -> None:
    adapter = random_adapter(SITES[name])
    expected = torch.linalg.svdvals(dense(adapter.delta(), SITES[name]))[:2]
    assert_close(adapter.singular_values, expected, **FP64)


@given(r=st.integers(1, 6), i=st.integers(1, 5), o=st.integers(1, 5), seed=st.integers(0, 99))
def test_norm_holds_at_any_rank(r: int, i: int, o: int, seed: int) -> None:
    torch.manual_seed(seed)
    adapter = random_adapter(LinearSite(i, o), r)
    assert adapter.norm() == pytest.approx(float(adapter.delta().norm()), rel=1e-9)


def test_ranks_that_the_groups_do_not_divide_are_refused() -> None:
    grouped = ConvSite((6, 4, 3), groups=2)
    assert grouped.rank_problem(4) is None
    assert grouped.rank_problem(3) == "has groups=2; r=3 must be a multiple of it"
    assert ConvSite((6, 4, 3), groups=2, square=True).rank_problem(3) is None


LAYERS: dict[str, tuple[nn.Module, Site]] = {
    "linear": (nn.Linear(7, 5), LinearSite(7, 5)),
    "embedding": (nn.Embedding(9, 4), EmbeddingSite(9, 4)),
    "conv1d": (nn.Conv1d(4, 6, 3, groups=2), ConvSite((6, 2, 3), groups=2)),
    "conv3d": (nn.Conv3d(2, 3, (1, 2, 3)), ConvSite((3, 2, 1, 2, 3))),
    "attention": (nn.MultiheadAttention(4, 2), InProjSite(4, 12)),
    "out_proj": (nn.MultiheadAttention(4, 2).out_proj, OutProjSite(4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_same_site_before_and_after_it_is_adapted(name: str) -> None:
    module, expected = LAYERS[name]
    assert site_of(module) == expected
    layer = adapt(module, AdapterSpec(2))
    assert (site_of(layer), layer.adapter.site) == (expected, expected)
    assert layer.adapter.delta().shape == layer.base_weight.shape


def test_a_layer_s_adapter_is_its_own_tensors_and_scale() -> None:
    layer = lora.Linear(4, 6, r=2, lora_alpha=8)
    assert layer.adapter.tensors["lora_A"] is layer.lora_A
    assert layer.adapter.spec.scaling == layer.scaling == 4
    assert_close(layer.adapter.delta(), layer.delta_weight())


def test_what_stands_nowhere_has_no_change() -> None:
    tensors = {"lora_A": torch.ones(1, 2), "lora_B": torch.ones(2, 1)}
    nowhere = ModuleAdapter(AdapterSpec(1), tensors)
    with pytest.raises(StateError, match="does not say the type of its layer"):
        nowhere.delta()


def test_a_change_that_depends_on_the_weight_asks_for_it() -> None:
    layer = lora.Linear(4, 6, r=2, variant="dora")
    with pytest.raises(StateError, match="The update of DoRA depends on the base weight"):
        layer.adapter.delta()
    with pytest.raises(StateError, match="The update of DoRA depends on the base weight"):
        layer.adapter.factors()
    assert_close(layer.adapter.delta(layer.weight), layer.delta_weight())
