"""Merge and continue on a real checkpoint: what was folded or split counts as loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, BertModel

import lorakit as lora


def trained(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.02)


def test_a_second_adapter_on_top_of_a_folded_one(minilm: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(minilm).eval()
    ids = torch.tensor([[101, 2023, 102]])
    for _ in range(2):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["query"]))
        trained(model)
        with torch.no_grad():
            adapted = model(ids).last_hidden_state
        lora.save_adapter(model, tmp_path / "adapter")
        lora.fold(model)
        with torch.no_grad():
            torch.testing.assert_close(model(ids).last_hidden_state, adapted, rtol=1e-4, atol=1e-4)
    assert type(model) is BertModel


def test_a_trained_head_is_no_longer_newly_initialised_after_folding(minilm: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(minilm)
    config = lora.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    lora.inject(model, config)
    lora.fold(model)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["value"]))
    assert not model.classifier.weight.requires_grad


def test_an_ejected_head_is_newly_initialised_again(minilm: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(minilm)
    config = lora.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"])
    lora.inject(model, config)
    lora.eject(model)
    with pytest.raises(
        lora.errors.TargetError, match=r"classifier\.weight is newly initialized, since"
    ):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["value"]))


def test_a_split_layer_of_a_checkpoint_can_be_adapted(minilm: Path) -> None:
    model = AutoModel.from_pretrained(minilm)
    lora.surgery.split_linear(model, "intermediate.dense", ["low", "high"])
    report = lora.inject(model, lora.LoraConfig(r=2, target_modules=["low"]))
    assert len(report.layers) == 6
