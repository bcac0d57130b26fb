"""Where the labels of a classification head are counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.models.heads import head_height, output_layer

SIZES: dict[str, Any] = {"vocab_size": 20, "num_labels": 5}
SMALL: dict[str, dict[str, Any]] = {
    "bart": {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
             "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
    "bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "deberta-v2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "pad_token_id": 0},
    "roberta": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "xlm": {"emb_dim": 16, "n_layers": 1, "n_heads": 2},
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16},
}  # fmt: skip


def bundle(trained: dict[str, torch.Tensor], num_labels: int | None = None) -> AdapterBundle:
    return AdapterBundle(LoraConfig(), {}, trained, num_labels=num_labels)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_a_heads_height_is_the_number_of_labels_in_any_order_of_its_file(name, backwards):
    """As all of what is not the body was trained; sorted, DistilBERT's pre_classifier is last."""
    config = AutoConfig.for_model(name, **SMALL[name], **SIZES)
    model = AutoModelForSequenceClassification.from_config(config)
    prefix = f"{model.base_model_prefix}."
    state = {n: t for n, t in model.state_dict().items() if not n.startswith(prefix)}
    trained = {n: state[n] for n in sorted(state, reverse=backwards)}
    assert head_height(bundle(trained)) == 5
    assert all(trained[n].shape[0] == 5 for n in output_layer(trained))


def test_a_file_that_says_its_number_is_believed():
    assert head_height(bundle({"classifier.weight": torch.zeros(3, 4)}, num_labels=7)) == 7


def test_what_is_no_head_has_no_height():
    trained = {
        "model.embed_tokens.weight": torch.zeros(30, 4),
        "lm_head.weight": torch.zeros(30, 4),
    }
    assert head_height(bundle(trained)) is None
    assert output_layer(trained) == []
