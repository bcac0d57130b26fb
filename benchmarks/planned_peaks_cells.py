"""The cells of `planned_peaks`: models by their configs, methods, dtypes and shapes of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import transformers
from transformers import PretrainedConfig

_WORDS = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}

MODELS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "MiniLM-L6": (
        "bert",
        {
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    ),
    "RoBERTa-base": ("roberta", {**_WORDS, "pad_token_id": 1}),
    "SmolLM2-135M": (
        "llama",
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "GPT-2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
}
"""transformers' model type and what its config sets, by name; the small ones first."""

METHODS = ("lora", "full", "houlsby", "prefix_layer")
DTYPES: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
SHAPES = ((4, 64), (1, 256))
"""Rows and tokens of a batch."""


@dataclass(frozen=True)
class Cell:
    """One training step, with AdamW and the method's defaults."""

    model: str
    method: str
    dtype: Literal["fp32", "bf16"]
    checkpointing: bool
    batch: int
    length: int


CELLS = [
    Cell(model, method, dtype, checkpointing, *shape)
    for model, method, dtype, checkpointing, shape in product(
        MODELS, METHODS, DTYPES, (False, True), SHAPES
    )
]
QUICK = [
    Cell("MiniLM-L6", method, dtype, False, 2, 16)
    for method in ("lora", "full")
    for dtype in DTYPES
]


def config_of(model: str) -> PretrainedConfig:
    kind, settings = MODELS[model]
    return transformers.AutoConfig.for_model(kind, **settings)


def built(model: str) -> Any:
    """A language model of a decoder, a classifier of an encoder, with random weights."""
    config = config_of(model)
    decodes = type(config) in (transformers.LlamaConfig, transformers.GPT2Config)
    name = "AutoModelForCausalLM" if decodes else "AutoModelForSequenceClassification"
    return getattr(transformers, name).from_config(config)
