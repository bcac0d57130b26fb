"""Where the layers of a model are, found by its structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    BartConfig,
    BertConfig,
    CLIPConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    SwinConfig,
    T5Config,
    ViTConfig,
    WhisperConfig,
)

from lorakit.errors import TargetError
from lorakit.methods.blocks import last_stack, stacks

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
BART = {
    "d_model": 16,
    **{
        f"{side}_{what}": 2
        for side in ("encoder", "decoder")
        for what in ("layers", "attention_heads")
    },
    **{f"{side}_ffn_dim": 24 for side in ("encoder", "decoder")},
}
KNOWN = [
    (BertConfig(num_hidden_layers=3, **TINY), {"encoder.layer": 3}),
    (DebertaV2Config(num_hidden_layers=3, **TINY), {"encoder.layer": 3}),
    (DistilBertConfig(dim=16, n_layers=3, n_heads=2, hidden_dim=24), {"transformer.layer": 3}),
    (GPT2Config(n_embd=16, n_layer=3, n_head=2), {"h": 3}),
    (LlamaConfig(num_hidden_layers=3, num_key_value_heads=2, **TINY), {"layers": 3}),
    (
        MixtralConfig(num_hidden_layers=3, num_key_value_heads=2, num_local_experts=4, **TINY),
        {"layers": 3},
    ),
    (T5Config(**T5), {"encoder.block": 2, "decoder.block": 2}),
    (T5Config(feed_forward_proj="gated-gelu", **T5), {"encoder.block": 2, "decoder.block": 2}),
    (BartConfig(**BART), {"encoder.layers": 2, "decoder.layers": 2}),
    (WhisperConfig(**BART), {"encoder.layers": 2, "decoder.layers": 2}),
    (
        SwinConfig(embed_dim=8, depths=[2, 2], num_heads=[2, 2]),
        {"encoder.layers.0.blocks": 2, "encoder.layers.1.blocks": 2},
    ),
    (ViTConfig(num_hidden_layers=3, **TINY), {"layers": 3}),
]


def built(config):
    with torch.device("meta"):
        return AutoModel.from_config(config)


@pytest.mark.parametrize(("config", "expected"), KNOWN, ids=lambda v: getattr(v, "model_type", ""))
def test_the_stacks_of_known_families_are_found(config, expected):
    found = {stack.name: len(stack.blocks) for stack in stacks(built(config))}
    assert found == expected


def test_a_name_finds_a_list_whose_structure_says_nothing():
    model = nn.ModuleDict({"trunk": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
    with pytest.raises(TargetError, match="name it in layers_pattern: its ModuleLists are trunk"):
        stacks(model)
    (stack,) = stacks(model, "trunk")
    assert [block.name for block in stack.blocks] == ["trunk.0", "trunk.1"]
    assert stack.blocks[1].module is model["trunk"][1]
    with pytest.raises(TargetError, match=r"'trunc' matches no ModuleList.*did you mean 'trunk'"):
        stacks(model, "trunc")


def test_a_model_without_any_list_says_so():
    with pytest.raises(TargetError, match="Linear has no ModuleList"):
        stacks(nn.Linear(2, 2))


def test_two_towers_have_no_last_stack():
    tower = {"num_hidden_layers": 1, **TINY}
    config = CLIPConfig(text_config=tower, vision_config=tower)
    with pytest.raises(TargetError, match=r"several stacks of layers \(.*layers_pattern"):
        last_stack(built(config))
    name = next(stack.name for stack in stacks(built(config)) if "vision" in stack.name)
    assert last_stack(built(config), name).name == name
