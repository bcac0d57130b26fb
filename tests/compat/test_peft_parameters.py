"""`target_parameters`: the same function, gradients and files as PEFT's, of experts and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch.testing import assert_close

import lorakit as lora
from lorakit.checkpoint.formats.peft.parameters import file_names
from lorakit.checkpoint.formats.tensor_files import load_safetensors
from lorakit.injection.transfer.saving import bundle_of
from lorakit.layers.conversion import lora_layers
from tests.injection import moe
from tests.tolerances import MODEL

# PEFT looks for them among modules alone, and applies them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"
)

CASES: dict[str, dict[str, Any]] = {
    "experts": {"target_modules": [], "target_parameters": moe.EXPERTS},
    "experts and attention": {"target_modules": ["q_proj"], "target_parameters": moe.EXPERTS},
    "one of them": {"target_modules": [], "target_parameters": ["experts.down_proj"]},
    "one layer": {
        "target_modules": [],
        "target_parameters": ["model.layers.1.mlp.experts.gate_up_proj"],
    },
    "a matrix": {"target_modules": [], "target_parameters": ["o_proj.weight"]},
    "biases beside": {"target_modules": [], "target_parameters": moe.EXPERTS, "bias": "all"},
    "a rank of its own": {
        "target_modules": [],
        "target_parameters": moe.EXPERTS,
        "rank_pattern": {"down_proj": 5},
        "alpha_pattern": {"1.mlp.experts.gate_up_proj": 3},
        "use_rslora": True,
    },
}


def of_peft(name: str, fields: dict[str, Any]) -> Any:
    """PEFT's model; both of A and B are random."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=3, lora_alpha=6, init_lora_weights=False, **fields)
    return peft.get_peft_model(moe.model_of(name), config)


MODELS = [
    *(("mixtral", case) for case in CASES),
    ("qwen3_moe", "experts"),
    ("gpt_oss", "experts"),
    ("gpt_oss", "biases beside"),
]


@pytest.mark.parametrize(("name", "case"), MODELS)
def test_file_of_peft_computes_the_same_here(name: str, case: str, tmp_path: Path) -> None:
    theirs = of_peft(name, CASES[case])
    theirs.save_pretrained(tmp_path)
    ours = moe.model_of(name)
    lora.load_adapter(ours, tmp_path)
    here, there = moe.logits(ours), moe.logits(theirs)
    assert_close(here, there, **MODEL)
    assert not torch.allclose(here, moe.logits(moe.model_of(name)), atol=1e-3)
    here.square().sum().backward()
    there.square().sum().backward()
    wrapper = file_names(bundle_of(ours).adapters)
    expected = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    for layer, adapted in lora_layers(ours):
        for leaf in adapted.tensor_names:
            key = f"base_model.model.{wrapper.get(layer, layer)}.{leaf}.default.weight"
            assert_close(adapted.get_parameter(leaf).grad, expected.pop(key), **MODEL)
    assert not [key for key in expected if "lora_" in key]


@pytest.mark.parametrize(("name", "case"), MODELS)
def test_file_from_here_computes_the_same_in_peft(name: str, case: str, tmp_path: Path) -> None:
    ours = moe.model_of(name)
    config = lora.LoraConfig(r=3, lora_alpha=6, init_lora_weights=False, **CASES[case])
    lora.inject(ours, config)
    lora.save_adapter(ours, tmp_path)
    theirs = peft.PeftModel.from_pretrained(moe.model_of(name), str(tmp_path))
    assert_close(moe.logits(theirs), moe.logits(ours), **MODEL)


def test_tensors_of_the_file_are_those_of_peft(tmp_path: Path) -> None:
    """Names and layout, to the byte."""
    of_peft("mixtral", CASES["experts"]).save_pretrained(tmp_path / "theirs")
    model = moe.model_of("mixtral")
    lora.load_adapter(model, tmp_path / "theirs")
    lora.save_adapter(model, tmp_path / "ours")
    (theirs, _), (ours, _) = (
        load_safetensors(tmp_path / name / "adapter_model.safetensors")
        for name in ("theirs", "ours")
    )
    assert list(ours) == sorted(theirs)
    assert_close(ours, theirs, rtol=0, atol=0)
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["target_modules"] == []
    assert config["target_parameters"] == ["experts.gate_up_proj", "experts.down_proj"]
