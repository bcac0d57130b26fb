"""The inputs that benchmarks share, each with its small stand-in for --quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from benchmarks.registry import Settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of the base and the activations."""


@dataclass(frozen=True)
class Operation:
    """One adapted square linear layer."""

    tokens: int
    width: int
    rank: int
    dtype: str
    dropout: float


def operations(settings: Settings) -> list[Operation]:
    tokens, widths, ranks = (1, 32, 2048), (384, 768, 1536), (8, 64)
    if settings.device != "cpu":
        tokens, widths = (1, 32, 2048, 8192), (1024, 4096)
    if settings.quick:
        tokens, widths, ranks = (32,), (64,), (8,)
    return [Operation(*cell) for cell in product(tokens, widths, ranks, DTYPES, (0.0, 0.1))]


@dataclass(frozen=True)
class Model:
    """A transformer without a head, with random weights and no dropout."""

    name: str
    build: Callable[..., nn.Module]
    """Takes what `sizes` holds."""
    sizes: dict[str, int]
    query_value: tuple[str, ...]
    all_linear: tuple[str, ...]
    rows: int = 1
    """Of the batch, each of `LENGTH` tokens."""

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        return {"q and v": self.query_value, "all linear": self.all_linear}


def bert(**sizes: int) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0, **sizes)
    return BertModel(config, add_pooling_layer=False)


def roberta(**sizes: int) -> nn.Module:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0, **sizes)
    return RobertaModel(config, add_pooling_layer=False)


def llama(**sizes: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(use_cache=False, **sizes))


def qwen2(**sizes: int) -> nn.Module:
    from transformers import Qwen2Config, Qwen2Model

    return Qwen2Model(Qwen2Config(use_cache=False, **sizes))


def sizes(layers: int, width: int, mlp: int, heads: int, **others: int) -> dict[str, int]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        **others,
    }


BERT_TARGETS: Any = (("query", "value"), ("query", "key", "value", "dense"))
LLAMA_TARGETS: Any = (
    ("q_proj", "v_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
LONG = {"vocab_size": 50265, "max_position_embeddings": 514}
LENGTH = 128
MODELS = (
    Model("MiniLM-L6", bert, sizes(6, 384, 1536, 12, vocab_size=30522), *BERT_TARGETS, 16),
    Model("RoBERTa-base", roberta, sizes(12, 768, 3072, 12, **LONG), *BERT_TARGETS, 8),
    Model(
        "Llama-shaped, 135 M",
        llama,
        sizes(30, 576, 1536, 9, num_key_value_heads=3, vocab_size=49152),
        *LLAMA_TARGETS,
        8,
    ),
)
SMALL = (
    Model("BERT, small", bert, sizes(2, 64, 128, 4, vocab_size=99), *BERT_TARGETS),
    Model("RoBERTa, small", roberta, sizes(2, 64, 128, 4, vocab_size=99), *BERT_TARGETS),
    Model(
        "Llama-shaped, small",
        llama,
        sizes(2, 72, 128, 9, num_key_value_heads=3, vocab_size=99),
        *LLAMA_TARGETS,
    ),
)
COMPILED = Model(
    "Qwen2-shaped, 448 wide",
    qwen2,
    sizes(4, 448, 1152, 7, num_key_value_heads=1, vocab_size=8192),
    *LLAMA_TARGETS,
    4,
)
"""Small, since every candidate is compiled."""


def models(settings: Settings) -> tuple[Model, ...]:
    return SMALL if settings.quick else MODELS
