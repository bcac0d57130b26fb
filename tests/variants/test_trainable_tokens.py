"""Adapters of rows, told from those of whole weights."""

from __future__ import annotations

import torch

import lorakit as lora
from lorakit.layers.conversion import lora_layers
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter, RowsSite
from lorakit.variants.trainable_tokens import VALUES, TrainableTokens, rows_of, rows_spec
from tests.injection import zoo


def test_rows_are_those_of_adapters_that_have_some() -> None:
    factors = {"lora_A": torch.ones(1, 3), "lora_B": torch.ones(4, 1)}
    site = RowsSite(3, 6, rows=(2, 5))
    adapters = {
        "q": ModuleAdapter(AdapterSpec(1), factors, LinearSite(3, 4)),
        "e": ModuleAdapter(rows_spec((2, 5)), {VALUES: torch.ones(2, 3)}, site),
        "unknown": ModuleAdapter(AdapterSpec(1), factors),
    }
    assert rows_of(adapters) == {"e": (2, 5)}
    assert [x.site.rows for x in adapters.values() if x.site is not None] == [None, (2, 5)]


def test_rows_of_layers_are_found_as_those_of_adapters() -> None:
    model = zoo.llama()
    config = lora.LoraConfig(target_modules=["q_proj"], trainable_token_indices=[7, 3])
    lora.inject(model, config)
    assert rows_of(dict(lora_layers(model))) == {"model.embed_tokens": (3, 7)}


def test_factors_of_rows_are_as_many_as_the_rows() -> None:
    weight = torch.randn(7, 3, dtype=torch.float64)
    values = torch.randn(2, 3, dtype=torch.float64)
    adapter = ModuleAdapter(rows_spec((2, 5)), {VALUES: values}, RowsSite(3, 7, rows=(2, 5)))
    ((a, b),) = adapter.factors(weight)
    assert (tuple(a.shape), tuple(b.shape)) == ((2, 3), (7, 2))
    assert torch.equal(b @ a, adapter.delta(weight))


def test_settings_of_rows_leave_no_scale() -> None:
    spec = rows_spec((2, 5, 9))
    assert (spec.r, spec.scaling, spec.variant) == (3, 1, TrainableTokens.name)
