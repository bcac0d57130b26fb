"""Adapters of experts that were modules of their own, on a model that has them stacked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

import lorakit as lora
from lorakit.errors import MismatchError
from lorakit.injection.transfer.stacked_experts import stacks_of
from tests.injection import moe
from tests.tolerances import MODEL

# PEFT looks for them among modules alone, and applies them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning"
)

OLD = {
    "mixtral": ("model.layers.{}.block_sparse_moe.", ("w1", "w3", "w2"), 4, 24),
    "qwen3_moe": ("model.layers.{}.mlp.", ("gate_proj", "up_proj", "down_proj"), 3, 12),
}
"""What transformers 4 called experts and their layers, their number, and their inner width."""


def written(name: str, path: Path, but: str = "\0", **fields: Any) -> Path:
    """An adapter as PEFT wrote it then, without the keys that contain `but`."""
    torch.manual_seed(3)
    prefix, leaves, experts, inner = OLD[name]
    tensors = {}
    for layer in range(2):
        sizes = {f"model.layers.{layer}.self_attn.q_proj": (16, 16)}
        sizes[f"{prefix.format(layer)}gate"] = 16, experts
        for expert in range(experts):
            for leaf, size in zip(leaves, ((16, inner), (16, inner), (inner, 16)), strict=True):
                sizes[f"{prefix.format(layer)}experts.{expert}.{leaf}"] = size
        for module, (width, height) in sizes.items():
            key = f"base_model.model.{module}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(2, width)
            tensors[f"{key}.lora_B.weight"] = torch.randn(height, 2)
    path.mkdir()
    save_file(
        {k: t for k, t in tensors.items() if but not in k}, path / "adapter_model.safetensors"
    )
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 6,
        "target_modules": [*leaves, "gate", "q_proj"],
    }
    (path / "adapter_config.json").write_text(json.dumps(config | fields))
    return path


@pytest.mark.parametrize("name", OLD)
def test_adapter_of_single_experts_computes_what_peft_makes_of_it(
    name: str, tmp_path: Path
) -> None:
    path = written(name, tmp_path / "old")
    theirs = peft.PeftModel.from_pretrained(moe.model_of(name), str(path))
    ours = moe.model_of(name)
    report = lora.load_adapter(ours, path)
    assert_close(moe.logits(ours), moe.logits(theirs), **MODEL)
    assert not torch.allclose(moe.logits(ours), moe.logits(moe.model_of(name)), atol=1e-3)
    prefix, leaves, experts, _ = OLD[name]
    inside = f"{prefix.format(0)}experts.{{0-{experts - 1}}}."
    assert report.renamed["model.layers.0.mlp.experts.gate_up_proj"] == ", ".join(
        inside + leaf for leaf in leaves[:2]
    )
    assert report.renamed["model.layers.1.mlp.gate.weight"] == f"{prefix.format(1)}gate"
    assert "renamed: " in str(report)


def test_what_was_loaded_is_saved_in_the_names_of_today(tmp_path: Path) -> None:
    ours = moe.model_of("mixtral")
    lora.load_adapter(ours, written("mixtral", tmp_path / "old", lora_dropout=0.1))
    lora.save_adapter(ours, tmp_path / "new")
    theirs = peft.PeftModel.from_pretrained(moe.model_of("mixtral"), str(tmp_path / "new"))
    assert_close(moe.logits(theirs), moe.logits(ours), **MODEL)


def test_what_peft_saves_of_it_loads_too(tmp_path: Path) -> None:
    """Its target_parameters are `gate_up_proj` and `down_proj`, without the module's name."""
    path = written("mixtral", tmp_path / "old")
    theirs = peft.PeftModel.from_pretrained(moe.model_of("mixtral"), str(path))
    theirs.save_pretrained(tmp_path / "new")
    said = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    assert set(said["target_parameters"]) == {"gate_up_proj", "down_proj", "gate.weight"}
    ours = moe.model_of("mixtral")
    lora.load_adapter(ours, tmp_path / "new")
    assert_close(moe.logits(ours), moe.logits(theirs), **MODEL)


REFUSED = {
    "experts.3": r"gate_up_proj: it has 4 experts of 2 weights each, and the file adapts 3 and 3",
    ".w3.": r"gate_up_proj: it has 4 experts of 2 weights each, and the file adapts 4 and 0",
}


@pytest.mark.parametrize("but", REFUSED)
def test_a_part_of_the_experts_is_refused_by_name(but: str, tmp_path: Path) -> None:
    path = written("mixtral", tmp_path / "old", but)
    with pytest.raises(MismatchError, match=REFUSED[but]) as caught:
        lora.load_adapter(moe.model_of("mixtral"), path)
    assert all("layers.{0,1}." in problem for problem in caught.value.problems)


def test_experts_that_are_adapted_twice_are_refused_by_name(tmp_path: Path) -> None:
    old = lora.checkpoint.read(written("mixtral", tmp_path / "old"))
    model = moe.model_of("mixtral")
    lora.inject(model, lora.LoraConfig(r=2, **moe.ALONE))
    new = lora.checkpoint.read(lora.save_adapter(model, tmp_path / "new"))
    lora.eject(model)
    both = lora.combine([(old, 1.0), (new, 1.0)]).bundle
    lora.checkpoint.write(both, tmp_path / "both.safetensors", format="lorakit")
    with pytest.raises(MismatchError, match="the file adapts it as well, beside its experts"):
        lora.load_adapter(model, tmp_path / "both.safetensors")


def test_a_merge_of_files_puts_it_where_the_base_has_the_experts(tmp_path: Path) -> None:
    path = written("mixtral", tmp_path / "old")
    model = moe.model_of("mixtral")
    model.save_pretrained(tmp_path / "base")
    report = lora.merge_files(path, tmp_path / "base", tmp_path / "merged")
    lora.load_adapter(model, path)
    merged = type(model).from_pretrained(tmp_path / "merged")
    assert_close(moe.logits(merged), moe.logits(model), **MODEL)
    assert "model.layers.0.mlp.experts.down_proj" in report.rounding


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {"shared_expert_intermediate_size": 12},
    "olmoe": {"eos_token_id": 1},
    "jamba": {},
    "deepseek_v3": {
        "first_k_dense_replace": 0, "n_group": 1, "topk_group": 1, "kv_lora_rank": 8,
        "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_experts_of_every_family_are_found_by_the_names_of_its_checkpoints(
    name: str, tmp_path: Path
) -> None:
    sizes = {
        "hidden_size": 16, "intermediate_size": 12, "moe_intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "vocab_size": 20, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "pad_token_id": 0,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes | FAMILIES[name]))
    model.save_pretrained(tmp_path)
    keys = load_file(tmp_path / "model.safetensors")
    found, others = stacks_of(model, [key.removesuffix(".weight") for key in keys])
    stacks = [name for name, p in model.named_parameters() if p.ndim == 3 and "experts" in name]
    assert not others
    assert found.keys() == set(stacks) != set()
    for parameter, parts in found.items():
        assert [len(part) for part in parts] == [4] * (2 if "gate_up" in parameter else 1)
