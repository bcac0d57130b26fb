"""The adapter of another model of the same base, as one of a set's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn
from torch.testing import assert_close

import lorakit
from lorakit import AdapterSet, LoraConfig
from lorakit.errors import StateError, TargetError
from tests.adapters.files import output, randomise
from tests.adapters.test_rows import TEXT
from tests.injection import zoo
from tests.tolerances import MODEL

QUERY = LoraConfig(r=2, target_modules=["q_proj"])


def test_a_shared_adapter_is_the_other_models() -> None:
    source, model = zoo.llama(), zoo.llama()
    lorakit.inject(source, QUERY)
    randomise(source, 0)
    adapters = AdapterSet(model)
    adapters.share("a", source, QUERY)
    trained = {id(p) for p in source.parameters() if p.requires_grad}
    assert {id(p) for p in adapters.parameters("a")} == trained
    adapters.activate("a")
    assert_close(output(model, **TEXT), output(source, **TEXT), **MODEL)


def test_a_model_without_an_adapter_shares_none() -> None:
    adapters = AdapterSet(zoo.llama())
    with pytest.raises(StateError, match=r"has no adapter to share; call lorakit\.inject first"):
        adapters.share("a", zoo.llama(), QUERY)
    assert adapters.list() == []


def other_names(**config: Any) -> nn.Module:
    source = nn.ModuleDict({"inner": zoo.llama()})
    lorakit.inject(source, LoraConfig(r=2, **config))
    return source


def other_shapes(**config: Any) -> nn.Module:
    source = zoo.llama(hidden_size=32)
    lorakit.inject(source, LoraConfig(r=2, **config))
    return source


@pytest.mark.parametrize(
    ("build", "adapter", "head"),
    [
        (
            other_names,
            r"inner\.model\.layers\.\{0,1\}\.self_attn\.q_proj is no module of this model",
            r"inner\.lm_head\.weight has the shape \(40, 16\), and none in this model",
        ),
        (
            other_shapes,
            r"q_proj is for a weight of \(32, 32\), and this model has \(16, 16\)",
            r"lm_head\.weight has the shape \(40, 32\), and \(40, 16\) in this model",
        ),
    ],
)
def test_what_has_no_place_is_listed_before_anything_changes(
    build: Any, adapter: str, head: str
) -> None:
    source = build(target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = zoo.llama()
    adapters = AdapterSet(model)
    with pytest.raises(TargetError, match="has no place in this LlamaForCausalLM") as caught:
        adapters.share("a", source, QUERY)
    for expected in (adapter, head):
        assert any(re.search(expected, problem) for problem in caught.value.problems)
    assert adapters.list() == []
    assert all(parameter.requires_grad for parameter in model.parameters())
