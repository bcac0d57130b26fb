"""Tiny models of each architecture, in float64 and without dropout, and texts for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from lorakit.methods.prefixes.config import PrefixConfig, PrefixLayerConfig

SHARED = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "num_hidden_layers": 3,
}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(max_position_embeddings=32, **DROPOUT, **SHARED),
    "roberta": RobertaConfig(max_position_embeddings=34, **DROPOUT, **SHARED),
    "gpt2": GPT2Config(
        n_embd=16,
        n_layer=3,
        n_head=2,
        n_positions=32,
        vocab_size=40,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **ENDS,
    ),
    "llama": LlamaConfig(num_key_value_heads=1, max_position_embeddings=32, **ENDS, **SHARED),
    "t5": T5Config(
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=3,
        num_heads=2,
        vocab_size=40,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    ),
}
CLASSES: dict[str, Any] = {
    "bert": AutoModelForSequenceClassification.from_config,
    "roberta": AutoModelForSequenceClassification.from_config,
    "gpt2": GPT2LMHeadModel,
    "llama": LlamaForCausalLM,
    "t5": T5ForConditionalGeneration,
}
SETTINGS = {"prefix_embedding": PrefixConfig, "prefix_layer": PrefixLayerConfig}
NAMES = pytest.mark.parametrize("name", SETTINGS)
CAUSAL = ("gpt2", "llama")
ENCODERS = ("bert", "roberta")


def make(kind: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return CLASSES[kind](CONFIGS[kind]).to(dtype).train()


@dataclass(frozen=True)
class Text:
    """A text and how many of its tokens are the prompt."""

    ids: Tensor
    prompt: int


def texts(kind: str) -> list[Text]:
    """Three texts of different lengths; all of an encoder's is the prompt."""
    torch.manual_seed(1)
    made = [torch.randint(4, 40, (length,)) for length in (7, 4, 6)]
    ends = (3, 2, 5) if kind in CAUSAL else (7, 4, 6)
    return [Text(ids, end) for ids, end in zip(made, ends, strict=True)]


def batch(kind: str) -> dict[str, Tensor]:
    """The texts as one batch, padded on the right, with labels."""
    rows, length = texts(kind), 7
    pad = CONFIGS[kind].pad_token_id or 0
    ids = torch.full((3, length), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, text in enumerate(rows):
        ids[row, : len(text.ids)] = text.ids
        mask[row, : len(text.ids)] = 1
        labels[row, text.prompt : len(text.ids)] = text.ids[text.prompt :]
    if kind in ENCODERS:
        labels = torch.tensor([0, 1, 1])
    elif kind == "t5":
        labels = torch.randint(4, 40, (3, 5))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
