"""Dimensions of known models, for plans without a download: no weights, no tokenizer.

Each is the model's published config, of which only what shapes its tensors is kept; GPT-3's is from
table 2.1 of Brown et al., arXiv 2005.14165.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Card = tuple[str, Mapping[str, Any]]
"""transformers' model type, and settings of its config."""


def _bert_like(kind: str, width: int, layers: int, heads: int, **more: Any) -> Card:
    return kind, {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        **more,
    }


def _roberta(width: int, layers: int, heads: int) -> Card:
    words = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    return _bert_like("roberta", width, layers, heads, **words, pad_token_id=1)


def _gpt2(width: int, layers: int, heads: int, positions: int = 1024) -> Card:
    return "gpt2", {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": positions}


def _decoder(
    kind: str, width: int, layers: int, heads: tuple[int, int], inner: int, **more: Any
) -> Card:
    return kind, {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": inner,
        **{"tie_word_embeddings": False, **more},
    }


_LLAMA3 = {"vocab_size": 128256, "max_position_embeddings": 8192}
_DEBERTA = {
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "max_relative_positions": -1,
    "position_biased_input": False,
    "conv_kernel_size": 3,
    "conv_act": "gelu",
}

CARDS: dict[str, Card] = {
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    "deberta-v2-xxlarge": _bert_like("deberta-v2", 1536, 48, 24, **_DEBERTA),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    "minilm-l6": _bert_like("bert", 384, 6, 12, vocab_size=30522, max_position_embeddings=512),
    "smollm2-135m": _decoder(
        "llama",
        576,
        30,
        (9, 3),
        1536,
        vocab_size=49152,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "gpt3-175b": _gpt2(12288, 96, 96, 2048),
    "llama-3-8b": _decoder("llama", 4096, 32, (32, 8), 14336, **_LLAMA3),
    "llama-3-70b": _decoder("llama", 8192, 80, (64, 8), 28672, **_LLAMA3),
    "qwen2.5-7b": _decoder(
        "qwen2", 3584, 28, (28, 4), 18944, vocab_size=152064, max_position_embeddings=131072
    ),
    "mixtral-8x7b": _decoder(
        "mixtral", 4096, 32, (32, 8), 14336, vocab_size=32000, max_position_embeddings=32768
    ),
}
"""By name."""

HUB_IDS = {
    "FacebookAI/roberta-base": "roberta-base",
    "FacebookAI/roberta-large": "roberta-large",
    "microsoft/deberta-v2-xxlarge": "deberta-v2-xxlarge",
    "openai-community/gpt2": "gpt2",
    "openai-community/gpt2-medium": "gpt2-medium",
    "openai-community/gpt2-large": "gpt2-large",
    "openai-community/gpt2-xl": "gpt2-xl",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm-l6",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "smollm2-135m",
    "meta-llama/Meta-Llama-3-8B": "llama-3-8b",
    "meta-llama/Meta-Llama-3-70B": "llama-3-70b",
    "Qwen/Qwen2.5-7B": "qwen2.5-7b",
    "mistralai/Mixtral-8x7B-v0.1": "mixtral-8x7b",
}
"""The cards of models on the Hub, by id."""
