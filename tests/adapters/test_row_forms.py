"""A variant says itself whether rows of a batch have a form in one operation, and with which d."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lorakit import AdapterBundle, AdapterSet, LoraConfig
from lorakit.adapters.installation import place_of
from lorakit.adapters.plans import ByRows
from lorakit.adapters.trained import Segments
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter, Site, Tensors, Variant
from lorakit.variants.registry import VARIANTS
from tests.adapters.files import output
from tests.injection import zoo
from tests.tolerances import MODEL


class Scaled(Variant):
    """W' = (1 + c) * (W + s * B A), row by row, as a program outside of lorakit would add it."""

    name = "scaled"
    title = "Scaled"
    tensor_names = ("lora_A", "lora_B", "c")
    needs_weight = True
    scales_rows = True

    def shapes(self, site: Site, r: int) -> dict[str, tuple[int, ...]]:
        a, b = site.factor_shapes(r)
        return {"lora_A": a, "lora_B": b, "c": (site.out_features,)}  # type: ignore[attr-defined]

    def row_offset(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        return tensors["c"]

    def delta(self, site: Site, weight: Tensor, tensors: Tensors, s: float) -> Tensor:
        whole = weight + site.product(tensors["lora_A"], tensors["lora_B"], s)
        return whole * (1 + tensors["c"]).unsqueeze(1) - weight


def test_a_variant_from_outside_that_scales_rows_is_one_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(VARIANTS, "scaled", Scaled())
    model, x = zoo.sequential(), torch.randn(4, 3, 8)
    adapters, expected = AdapterSet(model), [output(model, input=x)]
    for name in ("a", "b"):
        tensors = {"lora_A": torch.randn(2, 8), "lora_B": torch.randn(12, 2), "c": torch.rand(12)}
        adapter = ModuleAdapter(AdapterSpec(2, variant="scaled"), tensors, LinearSite(8, 12))
        config = LoraConfig(r=2, target_modules=["0"])
        bundle = AdapterBundle(config=config, adapters={"0": adapter})
        adapters.load_bundle(name, bundle, "a bundle", check_base=False)
        alone = zoo.sequential()
        alone[0].weight.data += adapter.delta(alone[0].weight.data)
        expected.append(output(alone, input=x))
    with adapters.rows(["a", None, "b", "a"]):
        found = output(model, input=x)
        plan = adapters._routing.choice().plan(place_of(model[0]))
        learning = adapters._routing.choice().plan_in_graph(place_of(model[0]))
    base, a, b = expected
    assert_close(found, torch.stack([a[0], base[1], b[2], a[3]]), **MODEL)
    assert isinstance(plan, ByRows)
    assert isinstance(learning, Segments)
    assert learning.scales_rows
