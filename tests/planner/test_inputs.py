"""Which models can be planned, with which labels, and how long their rows may be."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MarianConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)
from transformers.modeling_outputs import SequenceClassifierOutput

import lorakit as lora
from lorakit.errors import ConfigError, PlanError, StateError
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
    with pytest.raises(ConfigError, match="Model takes no labels, and planning computes a loss"):
        lora.plan(AutoModel.from_config(config), "full", length=8)


def test_a_model_whose_loss_is_of_other_labels_is_refused():
    model = AutoModelForQuestionAnswering.from_config(BertConfig(**SIZES))
    message = "planning computes a loss of these alone; plan a model whose forward takes labels"
    with pytest.raises(ConfigError, match=message):
        lora.plan(model, "full", length=8)


class Around(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


class WithinLM(PreTrainedModel):
    def __init__(self, config, inner):
        super().__init__(config)
        self.inner = inner
        self.post_init()

    def forward(self, **kwargs):
        return self.inner(**kwargs)


@pytest.mark.parametrize(
    "model",
    [
        lambda: Around(LlamaConfig(**SIZES)),
        lambda: WithinLM(LlamaConfig(**SIZES), LlamaForCausalLM(LlamaConfig(**SIZES))),
    ],
)
def test_a_forward_that_hands_its_keywords_on_takes_labels(model):
    assert lora.plan(model(), "full", batch=2, length=8).peak_bytes > 0


class Headless(LlamaModel):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)


def test_a_forward_that_hands_labels_on_to_no_head_is_refused():
    with pytest.raises(PlanError, match="Headless computes no loss of token ids and labels alone"):
        lora.plan(Headless(LlamaConfig(**SIZES)), "full", length=8)


@pytest.mark.parametrize("task_type", [None, "CAUSAL_LM"])
def test_a_model_with_modules_of_peft_is_refused_as_such(task_type):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj"], task_type=task_type)
    model = peft.get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZES)), config)
    with pytest.raises(StateError, match="modules of PEFT"):
        lora.plan(model, length=8)


class Reviews(BertPreTrainedModel):
    """A classifier of a user's own."""

    def __init__(self, config):
        super().__init__(config)
        self.bert, self.head = BertModel(config), nn.Linear(config.hidden_size, 2)
        self.post_init()

    def scores(self, states):
        return self.head(states[:, 0])

    def forward(self, input_ids, attention_mask=None, labels=None):
        logits = self.scores(self.bert(input_ids, attention_mask=attention_mask).last_hidden_state)
        loss = None if labels is None else cross_entropy(logits.flatten(0, -2), labels.flatten())
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Tags(Reviews):
    def scores(self, states):
        return self.head(states)


class TagsForTokens(Tags):
    pass


@pytest.mark.parametrize("kind", [Reviews, TagsForTokens])
def test_labels_of_a_class_that_is_not_of_transformers_are_those_its_name_says(kind):
    assert lora.plan(kind(BertConfig(**SIZES)), "full", batch=2, length=8).peak_bytes > 0


def test_a_loss_that_needs_labels_of_another_shape_is_named():
    message = r"Tags computes no loss of labels \(2,\): .*batch_size \(16\)"
    with pytest.raises(PlanError, match=message):
        lora.plan(Tags(BertConfig(**SIZES)), "full", batch=2, length=8)


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
