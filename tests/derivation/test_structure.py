"""Checkpoints of different architectures are refused with all that differs, unread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import lorakit as lora
from lorakit.base_checkpoints import BaseCheckpoint
from lorakit.errors import MismatchError

SIZES = {"hidden_size": 16, "num_attention_heads": 2, "vocab_size": 20, "intermediate_size": 24}


def llama(layers: int = 2, **config: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **config}, num_hidden_layers=layers))


def mixtral(experts: int) -> MixtralForCausalLM:
    torch.manual_seed(0)
    config = MixtralConfig(**SIZES, num_hidden_layers=1, num_local_experts=experts)
    return MixtralForCausalLM(config)


def save(model: nn.Module, path: Path) -> Path:
    model.save_pretrained(path)
    return path


LAYER = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
    "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm",
)  # fmt: skip
PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], list[str]]] = {
    "deeper": (
        llama,
        lambda: llama(4),
        [f"model.layers.{{2,3}}.{n}.weight is in the tuned model alone" for n in LAYER],
    ),
    "shallower": (
        llama,
        lambda: llama(1),
        [f"model.layers.1.{n}.weight is in the base alone" for n in LAYER],
    ),
    "modules that the base lacks": (
        llama,
        lambda: llama(attention_bias=True),
        [f"layers.{{0,1}}.self_attn.{n}_proj.bias is in the tuned model alone" for n in "qkvo"],
    ),
    "wider": (
        lambda: llama(1),
        lambda: llama(1, intermediate_size=32),
        [
            "model.layers.0.mlp.gate_proj.weight has shape (32, 16), and (24, 16) in the base",
            "model.layers.0.mlp.up_proj.weight has shape (32, 16), and (24, 16) in the base",
            "model.layers.0.mlp.down_proj.weight has shape (16, 32), and (16, 24) in the base",
        ],
    ),
    "more experts": (
        lambda: mixtral(2),
        lambda: mixtral(3),
        ["experts.gate_up_proj", "gate.weight"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("keep_rest", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_architectures_that_differ_are_refused_before_a_value_is_read(
    name: str, keep_rest: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a value was read")

    before, after, expected = PAIRS[name]
    base, tuned = save(before(), tmp_path / "base"), save(after(), tmp_path / "tuned")
    for method in ("read", "read_rows", "read_elements", "blocks"):
        monkeypatch.setattr(BaseCheckpoint, method, read)
    with pytest.raises(MismatchError, match="are of different architectures") as caught:
        lora.extract(base, tuned, rank=2, keep_rest=keep_rest)
    found = "\n".join(caught.value.problems)
    assert [text for text in expected if text not in found] == []


def test_models_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    base = save(llama(), tmp_path / "base")
    other = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2))
    tuned = save(other, tmp_path / "tuned")
    with pytest.raises(MismatchError, match="base is a llama model, which cannot be a GPT2LMHead"):
        lora.extract(base, tuned, rank=2)


def test_tensor_that_the_tuned_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    base, tuned = save(llama(), tmp_path / "base"), save(llama(), tmp_path / "tuned")
    tensors = load_file(tuned / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tuned / "model.safetensors", {"format": "pt"})
    with pytest.raises(MismatchError) as caught:
        lora.extract(base, tuned, rank=2)
    assert caught.value.problems == (
        "model.layers.1.mlp.up_proj.weight is in the base checkpoint alone",
    )


def test_another_head_of_the_base_is_no_difference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(**SIZES, num_hidden_layers=1)
    masked = BertForMaskedLM(config)
    config.num_labels = 5
    tuned = BertForSequenceClassification(config)
    tuned.bert.load_state_dict(masked.bert.state_dict(), strict=False)
    with torch.no_grad():
        tuned.bert.encoder.layer[0].attention.self.query.weight.mul_(1.1)
    base, after = save(masked, tmp_path / "base"), save(tuned, tmp_path / "tuned")
    with pytest.raises(MismatchError, match=r"classifier\.weight is not in the base"):
        lora.extract(base, after, rank=2)
