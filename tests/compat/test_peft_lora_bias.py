"""PEFT's `lora_bias`: the same function, gradients, files and merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

import lorakit as lora
from lorakit.errors import FormatError, LorakitError, SaveError, TargetError
from tests.tolerances import EXACT, MODEL

pytestmark = pytest.mark.filterwarnings(  # PEFT takes its own bias for a shard of a matrix
    "ignore:Adapter 'default'.*invalid shape.*lora_B.bias"
)

IDS = torch.arange(8).view(2, 4)


def bert() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 40}
    return BertForSequenceClassification(BertConfig(num_hidden_layers=1, **sizes)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40)).eval()


MODELS = {"bert": (bert, ["query", "dense"]), "gpt2": (gpt2, ["c_attn", "c_fc"])}


def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


def of_peft(name: str, path: Path) -> Any:
    """PEFT's model, all of whose adapter is random, and its directory."""
    make, targets = MODELS[name]
    config = peft.LoraConfig(
        r=2, lora_alpha=6, lora_bias=True, target_modules=targets, fan_in_fan_out=name == "gpt2"
    )
    model = peft.get_peft_model(make(), config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.normal_()
    model.save_pretrained(path)
    return model


def ours(name: str, path: Path) -> Any:
    model = MODELS[name][0]()
    lora.load_adapter(model, path)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_file_of_peft_computes_the_same_here_and_back(name: str, tmp_path: Path) -> None:
    theirs = of_peft(name, tmp_path / "theirs")
    model = ours(name, tmp_path / "theirs")
    here, there = logits(model), logits(theirs)
    assert_close(here, there, **MODEL)
    here.square().sum().backward()
    there.square().sum().backward()
    grads = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            module, _, leaf = key.rpartition(".")
            tail = {"lora_offset": "lora_B.default.bias"}.get(leaf, f"{leaf}.default.weight")
            assert_close(parameter.grad, grads.pop(f"base_model.model.{module}.{tail}"), **MODEL)
    assert not grads
    lora.save_adapter(model, tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(MODELS[name][0](), str(tmp_path / "ours")).eval()
    assert_close(logits(again), there, **MODEL)


@pytest.mark.parametrize("name", MODELS)
def test_folded_and_merged_it_is_what_peft_merges(name: str, tmp_path: Path) -> None:
    theirs = of_peft(name, tmp_path / "adapter").merge_and_unload()
    model = ours(name, tmp_path / "adapter")
    with torch.no_grad(), lora.merged(model):
        assert_close(logits(model), logits(theirs), **MODEL)
    lora.fold(model)
    assert_close(dict(model.state_dict()), dict(theirs.state_dict()), **MODEL)
    MODELS[name][0]().save_pretrained(tmp_path / "base")
    lora.merge_files(tmp_path / "adapter", tmp_path / "base", tmp_path / "merged")
    merged = type(model).from_pretrained(tmp_path / "merged").eval()
    assert_close(logits(merged), logits(theirs), **MODEL)


def test_a_trained_bias_is_merged_with_what_is_added_to_it(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(tmp_path / "base")
    fields = {"target_modules": ["dense"], "variant": "lora_bias", "bias": "lora_only"}
    lora.inject(model, lora.LoraConfig(r=2, **fields))
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter.normal_()
    lora.save_adapter(model, tmp_path / "adapter")
    lora.merge_files(tmp_path / "adapter", tmp_path / "base", tmp_path / "merged")
    merged = type(model).from_pretrained(tmp_path / "merged").eval()
    assert_close(logits(merged), logits(model), **MODEL)


def test_training_starts_at_the_base_and_moves_the_bias() -> None:
    model = bert()
    before = logits(model)
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"], variant="lora_bias"))
    assert_close(logits(model), before, **EXACT)
    assert report.trainable_parameters == 2 * (16 + 16) + 16
    logits(model).sum().backward()
    assert model.bert.encoder.layer[0].attention.self.query.lora_offset.grad.any()


@pytest.mark.parametrize("to", ["portable", "vllm", "loralib", "diffusers", "kohya"])
def test_formats_without_such_a_bias_refuse_it_by_name(to: str, tmp_path: Path) -> None:
    of_peft("bert", tmp_path / "adapter")
    bundle = lora.checkpoint.read(tmp_path / "adapter")
    with pytest.raises(SaveError, match="LoRA with a bias"):
        lora.checkpoint.write(bundle, tmp_path / "out", format=to)


def test_algebra_refuses_it_by_name(tmp_path: Path) -> None:
    of_peft("bert", tmp_path / "adapter")
    bundle = lora.checkpoint.read(tmp_path / "adapter")
    alone = lora.combine([(bundle, 1.0)])
    assert_close(alone.bundle.tensors, bundle.tensors, **EXACT)
    for refused in (
        lambda: lora.combine([(bundle, 1.0), (bundle, 1.0)]),
        lambda: lora.resize(bundle, rank=1),
    ):
        with pytest.raises(LorakitError, match="LoRA with a bias"):
            refused()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.Linear(3, 3, bias=False),
        lambda: prune.l1_unstructured(torch.nn.Linear(3, 3), "bias", 0.5),
    ],
    ids=["none", "pruned"],
)
def test_a_layer_without_a_bias_cannot_be_folded(make: Any) -> None:
    model = torch.nn.Sequential(make())
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], variant="lora_bias"))
    with pytest.raises(TargetError, match="0 has LoRA with a bias, and no bias of its own"):
        lora.fold(model)


def test_other_layers_refuse_it_by_name() -> None:
    for module in (torch.nn.Conv1d(2, 2, 1), torch.nn.Embedding(3, 2)):
        config = lora.LoraConfig(r=1, target_modules=["0"], variant="lora_bias")
        with pytest.raises(TargetError, match="lora_bias only supports"):
            lora.inject(torch.nn.Sequential(module), config)


def test_attention_that_reads_a_weight_refuses_it() -> None:
    model = torch.nn.Sequential(torch.nn.MultiheadAttention(4, 2))
    config = lora.LoraConfig(r=1, target_modules=["0.out_proj"], variant="lora_bias")
    with pytest.raises(TargetError, match=r"lora_bias"):
        lora.inject(model, config)


@pytest.mark.parametrize(
    ("lora_bias", "message"), [(False, "lora_B.bias is unexpected"), ("yes", "lora_bias is 'yes'")]
)
def test_config_that_contradicts_the_file_is_refused(
    lora_bias: object, message: str, tmp_path: Path
) -> None:
    of_peft("bert", tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_bias": lora_bias}))
    with pytest.raises(FormatError, match=message):
        lora.load_adapter(bert(), tmp_path)
