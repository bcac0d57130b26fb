"""Which models can be planned, with which labels, and how long their rows may be."""

from __future__ import annotations

import pytest
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    BertConfig,
    LlamaConfig,
    MarianConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

import lorakit as lora
from lorakit.errors import ConfigError, PlanError
from lorakit.methods.registry import METHODS

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 64,
}
MARIAN = MarianConfig(
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    vocab_size=64,
    pad_token_id=0,
    decoder_start_token_id=0,
)
MODELS = {
    "XLMRobertaForSequenceClassification": lambda: XLMRobertaConfig(**SIZES),
    "MarianMTModel": lambda: MARIAN,
    "BertForTokenClassification": lambda: AutoModelForTokenClassification.from_config(
        BertConfig(**SIZES)
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_labels_are_those_of_the_models_loss(name):
    plan = lora.plan(MODELS[name](), "full", batch=2, length=8)
    assert plan.model == name
    assert plan.peak_bytes > 0


@pytest.mark.parametrize("wrong", [nn.Sequential(nn.Linear(2, 2)), nn.ModuleDict({}), "bert", None])
def test_what_is_no_transformers_model_is_refused(wrong):
    with pytest.raises(ConfigError, match="cannot be planned: pass a transformers model or its"):
        lora.plan(wrong)


@pytest.mark.parametrize("config", [BertConfig(**SIZES), LlamaConfig(**SIZES)])
def test_a_model_without_a_head_is_refused(config):
    with pytest.raises(ConfigError, match="Model takes no labels, so it has no loss"):
        lora.plan(AutoModel.from_config(config), "full", length=8)


def test_a_model_that_needs_more_than_labels_is_refused():
    model = AutoModelForPreTraining.from_config(BertConfig(**SIZES))
    with pytest.raises(PlanError, match="BertForPreTraining computes no loss of token ids and"):
        lora.plan(model, "full", length=8)


def test_rows_are_as_long_as_the_model_reads():
    """RoBERTa counts positions from the padding's on."""
    config = RobertaConfig(**SIZES, max_position_embeddings=20)
    assert lora.plan(config, "full", length=18).peak_bytes
    message = "length is 19, and RobertaForSequenceClassification has 18 positions; plan at most 18"
    with pytest.raises(ConfigError, match=message):
        lora.plan(config, "full", length=19)


def test_virtual_tokens_take_positions_of_the_rows():
    config = BertConfig(**SIZES, max_position_embeddings=20)
    prefix = METHODS["prefix_embedding"].config_type(prefix=3, infix=2)
    assert lora.plan(config, "prefix_embedding", prefix, length=15).peak_bytes
    message = "has 20 positions, of which prefix_embedding takes 5; plan at most 15"
    with pytest.raises(ConfigError, match=message):
        lora.plan(config, "prefix_embedding", prefix, length=16)
    longer = METHODS["prefix_embedding"].config_type(prefix=30, infix=2)
    with pytest.raises(ConfigError, match="they take 32 of the 20 positions"):
        lora.plan(config, "prefix_embedding", longer, length=4)
