"""Which tensor of a checkpoint is which of a model, by transformers' own rules."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedModel

from lorakit.errors import MismatchError
from lorakit.models.checkpoint_names import checkpoint_names
from tests.merging import models

CONFIG = BertConfig(
    vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4
)
WORDS = "embeddings.word_embeddings.weight"


def on_meta(kind: type[PreTrainedModel]) -> PreTrainedModel:
    with torch.device("meta"):
        return kind(CONFIG)


def test_prefix_of_a_body_is_added_and_taken_away() -> None:
    found = checkpoint_names(on_meta(BertForMaskedLM), [WORDS])
    assert found.of_key == {WORDS: f"bert.{WORDS}"}
    assert found.spelled == {WORDS: f"bert.{WORDS}"}
    found = checkpoint_names(on_meta(BertModel), [f"bert.{WORDS}", "cls.predictions.bias"])
    assert found.of_key == {f"bert.{WORDS}": WORDS}
    assert found.spelled == {f"bert.{WORDS}": WORDS}
    assert found.unknown == ("cls.predictions.bias",)


def test_names_of_old_releases_are_known_and_stay_as_they_are() -> None:
    found = checkpoint_names(on_meta(BertModel), ["embeddings.LayerNorm.gamma"])
    assert found.of_key == {"embeddings.LayerNorm.gamma": "embeddings.LayerNorm.weight"}
    assert not found.spelled


def test_experts_that_are_stored_apart_are_converted() -> None:
    model = models.mixtral()
    expert = "model.layers.0.block_sparse_moe.experts"
    keys = [f"{expert}.{number}.{leaf}.weight" for number in (0, 1) for leaf in ("w1", "w3", "w2")]
    found = checkpoint_names(model, keys)
    assert not found.of_key
    assert not found.unknown
    counts = {name.rpartition(".")[2]: len(parts) for name, parts in found.converted.items()}
    assert counts == {"gate_up_proj": 4, "down_proj": 2}


def test_two_keys_for_one_tensor_are_refused_with_both() -> None:
    with pytest.raises(MismatchError, match=f"bert.{WORDS}: {WORDS} and bert.{WORDS}"):
        checkpoint_names(on_meta(BertForMaskedLM), [WORDS, f"bert.{WORDS}"])
