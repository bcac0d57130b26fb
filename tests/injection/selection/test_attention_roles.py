"""Projections of attention by their roles."""

from __future__ import annotations

import re

import pytest
import torch
import transformers
from torch import nn

import lorakit as lora
from lorakit.config.attention import ROLES
from lorakit.errors import TargetError
from lorakit.injection.selection import architectures
from lorakit.injection.selection.matching import select, target_names
from tests.injection import zoo


def known_types() -> list[str]:
    types = [t for group in architectures._PROJECTIONS.values() for t in group.split()]
    return sorted([*types, *architectures._FUSED_QKV])


def on_meta(model_type: str) -> nn.Module:
    """A model of one layer without memory, from transformers' own config."""
    config = transformers.CONFIG_MAPPING[model_type]()
    for depth in ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_layers"):
        if hasattr(config, depth):
            setattr(config, depth, 1)
    with torch.device("meta"):
        return transformers.AutoModel.from_config(config)


@pytest.mark.parametrize("model_type", known_types())
def test_each_role_of_a_known_architecture_names_as_many_layers(model_type):
    model = on_meta(model_type)
    found = {role: names_of(model, f"attention:{role}") for role in ROLES}
    assert len({len(names) for names in found.values()}) == 1
    together = {name for names in found.values() for name in names}
    assert together == set(names_of(model, "attention:qkvo"))
    fused = model_type in architectures._FUSED_QKV
    assert len(together) == (2 if fused else 4) * len(found["q"])
    assert all(re.search(r"att|\.q_lin|\.[kvo]\w*_lin", name, re.IGNORECASE) for name in together)


def test_roles_leave_out_the_head_of_a_transformers_model():
    found = names_of(zoo.bart("BartForSequenceClassification"), "attention:o")
    assert len(found) == 2 + 2 * 2
    assert all(name.endswith("attn.out_proj") for name in found)


def names_of(model: nn.Module, targets: str) -> list[str]:
    names, problems = target_names(model, lora.LoraConfig(target_modules=targets))
    assert problems == []
    return names


@pytest.mark.parametrize(
    ("roles", "adapted"),
    [("q", {"c_attn": "100"}), ("kv", {"c_attn": "011"}), ("vo", {"c_attn": "001", "c_proj": ""})],
)
def test_roles_of_gpt2_are_slices_of_its_fused_weight(roles, adapted):
    config = lora.LoraConfig(r=1, target_modules=f"attention:{roles}")
    found = {}
    for target in select(zoo.gpt2(), config).targets:
        parts = getattr(target.site, "slices", ()) or ()
        found[target.name.rpartition(".")[2]] = "".join(str(int(on)) for _, on in parts)
    assert found == adapted


def test_query_and_value_by_role_are_the_default():
    by_role = lora.inject(zoo.t5(), lora.LoraConfig(r=2, target_modules="attention:qv"))
    default = lora.inject(zoo.t5(), lora.LoraConfig(r=2))
    assert [layer.name for layer in by_role.layers] == [layer.name for layer in default.layers]


def test_roles_are_saved_as_the_names_of_the_layers(tmp_path):
    model = zoo.t5()
    lora.inject(model, lora.LoraConfig(r=2, target_modules="attention:o"))
    lora.save_adapter(model, tmp_path / "adapter")
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert "attention:" not in text
    lora.load_adapter(zoo.t5(), tmp_path / "adapter")


def test_a_model_whose_roles_are_unknown_says_how_to_name_them():
    with pytest.raises(TargetError, match="no table of attention's projections for a model"):
        select(nn.Sequential(nn.Linear(2, 2)), lora.LoraConfig(target_modules="attention:q"))
