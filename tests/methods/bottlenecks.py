"""What the tests of bottleneck adapters share: small models, inputs and settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
)

from lorakit.methods import METHODS

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 40}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = BertConfig(num_hidden_layers=3, max_position_embeddings=16, **DROPOUT, **TINY)
GPT2 = GPT2Config(
    n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=16,
    resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
)  # fmt: skip
HEAD = ["classifier"]
CASES = {
    "houlsby": {"bottleneck": 3},
    "pfeiffer": {"bottleneck": 3},
    "lin": {"bottleneck": 3},
    "adapter_drop": {"bottleneck": 3, "dropped": 1},
}
EACH = pytest.mark.parametrize("name", CASES)


def config_of(name: str, **settings):
    return METHODS[name].config_type(**CASES[name] | settings)


def bert() -> nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(BERT)


def tokens() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"input_ids": torch.randint(5, 40, (3, 7)), "labels": torch.tensor([0, 1, 1])}


def randomise(model: nn.Module) -> None:
    """Every trainable parameter away from its initial value."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


def on_meta(config, kind=AutoModelForSequenceClassification):
    with torch.device("meta"):
        return kind.from_config(config)
