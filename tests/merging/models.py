"""Small models of several architectures, adapters on them, and what both compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import lorakit as lora

IDS = torch.tensor([[3, 5, 7, 2, 9, 1]])


def bert() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    return BertForSequenceClassification(
        BertConfig(**sizes, vocab_size=50, num_attention_heads=2, num_labels=3)
    )


def llama(tied: bool = False) -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=50, tie_word_embeddings=tied))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=32)
    )


def t5(tied: bool = True) -> PreTrainedModel:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(**sizes, vocab_size=50, tie_word_embeddings=tied, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config)


def mixtral() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return MixtralForCausalLM(MixtralConfig(**sizes, **heads, vocab_size=50, num_local_experts=2))


def save(
    make: Callable[[], PreTrainedModel], place: Path, shards: bool = False, **cast: Any
) -> Path:
    """A base on disk, in one file or in several."""
    model = make().to(**cast) if cast else make()
    model.save_pretrained(place, max_shard_size="8KB" if shards else "1GB")
    assert (place / "model.safetensors").exists() != shards
    return place


def adapt(base: Path, kind: type[PreTrainedModel], place: Path, **config: Any) -> Path:
    """An adapter of some size on the base."""
    model = kind.from_pretrained(base)
    settings = {"r": 2, "lora_alpha": 8, "init_lora_weights": False, **config}
    lora.inject(model, lora.LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return lora.save_adapter(model, place)


def logits(model: PreTrainedModel) -> Tensor:
    more = {"decoder_input_ids": IDS.flip(1)} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(IDS, **more).logits


def adapted_logits(
    base: Path, kind: type[PreTrainedModel], adapter: Path, **options: Any
) -> Tensor:
    model = kind.from_pretrained(base, **options)
    lora.load_adapter(model, adapter)
    return logits(model)


def strict(kind: type[PreTrainedModel], place: Path) -> PreTrainedModel:
    """The model that plain transformers loads, which finds all of it and nothing else."""
    model, info = kind.from_pretrained(place, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model
