"""What transformers' own `save_pretrained` does to an adapted model.

It writes the model's state_dict: the base weights as they are, A and B under their own names, and
the trained copies of heads and biases in place of the originals. `from_pretrained` then builds the
plain class, calls A and B unexpected and gives the base with that head: the adapter is not applied.
So an adapter is saved with `save_adapter`, and a merged model with `fold` first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertForSequenceClassification, GPT2LMHeadModel

import lorakit as lora
from tests.compat.peft_cases import ENCODER, GPT2, hf
from tests.tolerances import EXACT, MODEL

IDS = torch.arange(3, 15).view(2, 6)
CONFIG = lora.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False)


def classifier() -> nn.Module:
    torch.manual_seed(3)
    return BertForSequenceClassification(BertConfig(**ENCODER, num_labels=3)).eval()


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS)[0]


@pytest.mark.parametrize("mode", ["train", "eval", "merged"])
def test_base_weights_in_it_are_bit_identical(mode: str, tmp_path: Path) -> None:
    model = classifier()
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora.inject(model, CONFIG.replace(merge_weights=True))
    model.train(mode == "train")
    logits(model)
    if mode == "merged":
        with lora.merged(model):
            model.save_pretrained(tmp_path)
    else:
        model.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    for name, tensor in plain.items():
        torch.testing.assert_close(found[name], tensor, **EXACT)
    extra = found.keys() - plain.keys()
    assert len(extra) == 8
    assert all(name.endswith((".lora_A", ".lora_B")) for name in extra)


def test_reload_reports_the_adapter_as_unexpected_and_gives_the_base(tmp_path: Path) -> None:
    model = classifier()
    base = logits(model)
    lora.inject(model, CONFIG)
    assert not torch.equal(logits(model), base)
    model.save_pretrained(tmp_path)
    again, info = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    lora_keys = {name for name in model.state_dict() if "lora_" in name}
    assert set(info["unexpected_keys"]) == lora_keys
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert torch.equal(logits(again.eval()), base)


def test_reload_has_the_trained_head_without_the_adapter(tmp_path: Path) -> None:
    model = classifier()
    lora.inject(model, CONFIG.replace(modules_to_save=["classifier"]))
    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    lora.inject(again, CONFIG)
    assert not torch.equal(again.bert.encoder.layer[0].attention.self.query.lora_A,
                           model.bert.encoder.layer[0].attention.self.query.lora_A)  # fmt: skip


def test_reload_and_load_adapter_give_the_adapted_model(tmp_path: Path) -> None:
    """Both directories side by side are a whole: the base is the one that the adapter knows."""
    model = classifier()
    lora.inject(model, CONFIG.replace(modules_to_save=["classifier"]))
    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.save_pretrained(tmp_path / "model")
    lora.save_adapter(model, tmp_path / "adapter")
    again = BertForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    report = lora.load_adapter(again, tmp_path / "adapter")
    assert report.base_verified is True
    assert torch.equal(logits(again), logits(model))


def test_folded_model_is_a_plain_one(tmp_path: Path) -> None:
    model = classifier()
    lora.inject(model, CONFIG)
    expected = logits(model)
    lora.fold(model)
    model.save_pretrained(tmp_path)
    again, info = BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    torch.testing.assert_close(logits(again.eval()), expected, **MODEL)


@pytest.mark.parametrize("target", ["wte", "lm_head"])
def test_folded_tie_is_saved_as_two_weights(target: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = hf("GPT2LMHeadModel", **GPT2, bos_token_id=0, eos_token_id=0)().eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=[target], init_lora_weights=False))
    expected = logits(model)
    lora.fold(model)
    model.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert again.lm_head.weight is not again.transformer.wte.weight
    torch.testing.assert_close(logits(again), expected, **MODEL)


def test_real_model_reloads_as_its_base(minilm: Path, tmp_path: Path) -> None:
    model: Any = AutoModel.from_pretrained(minilm).eval()
    base = logits(model)
    lora.inject(model, CONFIG)
    model.save_pretrained(tmp_path)
    again, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert len(info["unexpected_keys"]) == 24
    assert torch.equal(logits(again.eval()), base)
    lora.eject(model)
    assert torch.equal(logits(model), base)
