"""The base comes in the class and with the labels that its adapter needs, or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import lorakit as lora
from lorakit.checkpoint import read
from lorakit.training.base_model import load_base, skeleton
from lorakit.training.merging import merge_to_directory

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


@pytest.fixture
def masked_lm(tmp_path: Path) -> Path:
    """A BERT with the head it was pretrained with, on disk."""
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def classifier_adapter(base: Path, path: Path, labels: int = 3) -> Path:
    model = BertForSequenceClassification.from_pretrained(base, num_labels=labels)
    lora.inject(
        model,
        lora.LoraConfig(r=2, modules_to_save=["classifier", "pooler"], init_lora_weights=False),
    )
    return lora.save_adapter(model, path)


def test_skeleton_has_shapes_and_no_weights(masked_lm):
    model = skeleton(str(masked_lm))
    assert isinstance(model, BertForMaskedLM)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_load_base_gives_the_class_and_labels_of_the_adapter(masked_lm, tmp_path):
    bundle = read(classifier_adapter(masked_lm, tmp_path / "adapter"))
    model = load_base(str(masked_lm), bundle=bundle)
    assert isinstance(model, BertForSequenceClassification)
    assert model.config.num_labels == 3
    assert lora.load_adapter(model, tmp_path / "adapter").base_verified is True


def test_load_base_without_an_adapter_is_the_bases_own_class(masked_lm):
    assert isinstance(load_base(str(masked_lm)), BertForMaskedLM)


def test_load_base_refuses_weights_that_nobody_brings(tmp_path):
    BertForMaskedLM(BertConfig(**SMALL)).bert.save_pretrained(tmp_path / "base")
    model = BertForMaskedLM(BertConfig(**SMALL))
    lora.inject(model, lora.LoraConfig(r=2))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(lora.errors.MismatchError, match=r"cls.predictions.*would be random"):
        load_base(str(tmp_path / "base"), bundle=read(tmp_path / "adapter"))


def test_load_base_refuses_another_architecture(masked_lm, tmp_path):
    model = RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=3))
    lora.inject(model, lora.LoraConfig(r=2, modules_to_save=["classifier"]))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(lora.errors.MismatchError, match="the base is a bert model"):
        load_base(str(masked_lm), bundle=read(tmp_path / "adapter"))


@pytest.mark.parametrize("loader", [skeleton, load_base])
def test_a_directory_without_a_model_is_named(loader, tmp_path):
    with pytest.raises(lora.errors.FormatError, match=r"has no config\.json"):
        loader(str(tmp_path))


def test_a_base_without_its_weights_is_named(tmp_path):
    BertConfig(**SMALL, architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    with pytest.raises(lora.errors.FormatError, match="cannot be loaded"):
        load_base(str(tmp_path))


def test_without_transformers_the_extra_is_named(monkeypatch, masked_lm):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(lora.errors.MissingDependencyError, match=r"lorakit\[transformers\]"):
        load_base(str(masked_lm))


def test_merge_of_tied_embeddings_unties_them_on_disk(tmp_path):
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["wte"], init_lora_weights=False))
    lora.save_adapter(model, tmp_path / "adapter")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        expected = model(ids).logits
    merge_to_directory(str(tmp_path / "adapter"), None, tmp_path / "merged")
    merged = GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
    assert merged.lm_head.weight.data_ptr() != merged.transformer.wte.weight.data_ptr()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, expected)


def test_merge_needs_a_base(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    lora.save_adapter(model, tmp_path / "adapter")
    with pytest.raises(lora.errors.ConfigError, match="--base"):
        merge_to_directory(str(tmp_path / "adapter"), None, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_failing_save_leaves_nothing_behind(masked_lm, tmp_path, monkeypatch):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BertForSequenceClassification, "save_pretrained", full_disk)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with pytest.raises(lora.errors.SaveError, match="No space left"):
        merge_to_directory(str(adapter), str(masked_lm), tmp_path / "merged")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
