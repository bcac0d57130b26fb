"""A merged model is a plain one on disk, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

import lorakit as lora
from lorakit.inference.merging import merge_to_directory
from lorakit.locks import exclusive
from tests.models.test_loading import SMALL, classifier_adapter


@pytest.fixture
def masked_lm(tmp_path: Path) -> Path:
    BertForMaskedLM(BertConfig(**SMALL)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


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


def test_a_failure_of_safetensors_is_a_save_error(masked_lm, tmp_path, monkeypatch):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")

    def full_disk(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(BertForSequenceClassification, "save_pretrained", full_disk)
    with pytest.raises(lora.errors.SaveError, match="No space left"):
        merge_to_directory(str(adapter), str(masked_lm), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_second_merge_into_one_place_is_told_who_makes_it(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    output = tmp_path / "merged"
    with (
        exclusive(tmp_path / ".merged.new", output),
        pytest.raises(lora.errors.SaveError, match=r"merged is being written by process \d+ on"),
    ):
        merge_to_directory(str(adapter), str(masked_lm), output)
    assert not output.exists()


def test_what_a_killed_merge_left_is_gone_after_the_next(masked_lm, tmp_path):
    adapter = classifier_adapter(masked_lm, tmp_path / "adapter")
    left = tmp_path / ".merged.new" / "merged"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    merge_to_directory(str(adapter), str(masked_lm), tmp_path / "merged")
    assert not left.parent.exists()
    assert "half.safetensors" not in {file.name for file in (tmp_path / "merged").iterdir()}
