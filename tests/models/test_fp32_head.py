"""Heads that compute in float32 beside a body of 16 bits."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from lorakit.models.dtypes import autocast, compute_in
from lorakit.models.fp32_head import head_modules, keep_in_float32

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 32, "pad_token_id": 0}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "pad_token_id": 0}
IDS = torch.arange(1, 13).view(3, 4)


@pytest.fixture
def model():
    """One output near 2.7, where neighbours in bfloat16 are 1/64 apart."""
    found = BertForSequenceClassification(BertConfig(**SIZES, num_labels=1)).eval()
    torch.nn.init.constant_(found.classifier.bias, 2.7)
    return found.requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (BertForSequenceClassification(BertConfig(**SIZES)), ["classifier"]),
        (BertForMultipleChoice(BertConfig(**SIZES)), ["classifier"]),
        (RobertaForSequenceClassification(RobertaConfig(**SIZES)), ["classifier"]),
        (GPT2ForSequenceClassification(GPT2Config(**GPT2)), ["score"]),
        (GPT2LMHeadModel(GPT2Config(**GPT2)), []),
        (torch.nn.Linear(2, 2), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_head_is_what_stands_beside_the_body(model, names):
    assert head_modules(model) == [model.get_submodule(name) for name in names]


@pytest.mark.parametrize("copied", [False, True])
def test_logits_and_loss_of_a_16_bit_body_are_float32(model, copied):
    expected = model(IDS).logits
    compute_in(model, "bf16")
    assert model.bert.encoder.layer[0].output.dense.weight.dtype is torch.bfloat16
    if copied:
        model = copy.deepcopy(model)
        torch.nn.init.constant_(model.classifier.bias, 3.7)
        expected = expected + 1
    with autocast(torch.device("cpu"), "bf16"):
        output = model(IDS, labels=torch.tensor([1.0, 2.0, 3.0]))
    assert output.logits.dtype is output.loss.dtype is torch.float32
    assert (output.logits != output.logits.bfloat16()).any()
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=0.01)


def test_a_head_of_several_layers_has_gradients_as_in_float32():
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(RobertaConfig(**SIZES)).eval()
    model.roberta.requires_grad_(False)
    labels = torch.tensor([0, 1, 1])
    model(IDS, labels=labels).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.classifier.named_parameters()}
    model.zero_grad()
    compute_in(model, "bf16")
    with autocast(torch.device("cpu"), "bf16"):
        loss = model(IDS, labels=labels).loss
    loss.backward()
    for name, parameter in model.classifier.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0.05, atol=0.002)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))])
def test_a_copy_of_a_float32_head_runs_its_own_weights(copied):
    head = nn.Linear(2, 2)
    keep_in_float32(head)
    again = copied(head)
    torch.nn.init.zeros_(again.weight)
    torch.nn.init.zeros_(again.bias)
    assert not again(torch.ones(1, 2)).any()
    assert head(torch.ones(1, 2)).any()
