"""Tiny, randomly initialised models of many architectures, each with a batch that fits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Batch = dict[str, Tensor]

_SPREAD = 0.3
"""Of the initial weights; with transformers' 0.02 so small a model computes hardly anything."""

_BERT_LIKE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 34,
    "initializer_range": _SPREAD,
}


def _ids(length: int = 6, vocabulary: int = 40) -> Tensor:
    """Token ids from 3 upwards (no padding id of any architecture here), two rows."""
    return 3 + torch.arange(2 * length).reshape(2, length) % (vocabulary - 3)


def _build(config: str, model: str, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    made = getattr(transformers, model)(getattr(transformers, config)(**settings))
    assert isinstance(made, nn.Module)
    return made.eval()


def bert(model: str = "BertModel", **settings: Any) -> nn.Module:
    return _build("BertConfig", model, **_BERT_LIKE | settings)


def roberta(model: str = "RobertaForSequenceClassification", **settings: Any) -> nn.Module:
    return _build("RobertaConfig", model, **_BERT_LIKE | settings)


def deberta(**settings: Any) -> nn.Module:
    relative = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "share_att_key": False,
        "pooler_hidden_size": 16,
    }
    name = "DebertaV2ForSequenceClassification"
    return _build("DebertaV2Config", name, **_BERT_LIKE | relative | settings)


def gpt2(**settings: Any) -> nn.Module:
    """Its embedding and its head are one Parameter."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 16}
    ids = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": _SPREAD}
    return _build("GPT2Config", "GPT2LMHeadModel", **sizes | ids | settings)


_DECODER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "initializer_range": _SPREAD,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(**settings: Any) -> nn.Module:
    """Grouped-query attention: keys and values are half as wide as queries."""
    return _build("LlamaConfig", "LlamaForCausalLM", **_DECODER | settings)


def phi3(**settings: Any) -> nn.Module:
    """Query (16), key (8) and value (8) fused in one weight of 32 rows."""
    return _build("Phi3Config", "Phi3ForCausalLM", **_DECODER | settings)


T5_SIZES = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 40,
    "decoder_start_token_id": 0,
}


def t5(**settings: Any) -> nn.Module:
    """One embedding for encoder, decoder and head."""
    return _build("T5Config", "T5ForConditionalGeneration", **T5_SIZES | settings)


def bart(model: str = "BartForConditionalGeneration", **settings: Any) -> nn.Module:
    sizes = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "vocab_size": 40,
        "max_position_embeddings": 16,
        "init_std": _SPREAD,
    }
    return _build("BartConfig", model, **sizes | settings)


def llava() -> nn.Module:
    """A decoder of text that sees images."""
    sight = {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "image_size": 8,
        "patch_size": 4,
    }
    parts = {"vision_config": sight, "text_config": {"model_type": "llama", **_DECODER}}
    return _build("LlavaConfig", "LlavaForConditionalGeneration", **parts)


def vit(**settings: Any) -> nn.Module:
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": _SPREAD,
        "image_size": 8,
        "patch_size": 4,
    }
    return _build("ViTConfig", "ViTForImageClassification", **sizes | settings)


def whisper(**settings: Any) -> nn.Module:
    sizes = {
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24,
        "vocab_size": 40,
        "init_std": _SPREAD,
        "num_mel_bins": 8,
        "max_source_positions": 10,
        "max_target_positions": 16,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
    }
    return _build("WhisperConfig", "WhisperForConditionalGeneration", **sizes | settings)


class Fused(nn.Module):
    """A block whose qkv weight has a query of 8 rows and keys and values of 4 each."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 16)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split([8, 4, 4], -1)
        out: Tensor = self.out(q * torch.cat([k, v], -1))
        return out


def fused() -> nn.Module:
    torch.manual_seed(1)
    return Fused().eval()


def sequential() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(8, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4)
    ).eval()


@dataclass(frozen=True)
class Case:
    """An architecture: how to build it, what to feed it, and the names of its query and value."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    targets: tuple[str, ...]

    def output(self, model: nn.Module) -> Tensor:
        """The first tensor that the model gives for the batch."""
        result = model(**self.batch())
        output = result if isinstance(result, Tensor) else result[0]
        assert isinstance(output, Tensor)
        return output


def _x(width: int = 8) -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * width).reshape(2, 3, width)


def _text() -> Batch:
    return {"input_ids": _ids(), "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2])}


def _pair() -> Batch:
    return {"input_ids": _ids(), "decoder_input_ids": _ids(4)}


def _image() -> Batch:
    return {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)}


def _audio() -> Batch:
    sound = torch.linspace(-1, 1, 2 * 8 * 20).reshape(2, 8, 20)
    return {"input_features": sound, "decoder_input_ids": _ids(4)}


CASES = {
    case.name: case
    for case in (
        Case("bert", bert, _text, ("query", "value")),
        Case("roberta", roberta, _text, ("query", "value")),
        Case("deberta-v2", deberta, _text, ("query_proj", "value_proj")),
        Case("gpt2", gpt2, _text, ("c_attn",)),
        Case("llama", llama, _text, ("q_proj", "v_proj")),
        Case("phi3", phi3, _text, ("qkv_proj",)),
        Case("t5", t5, _pair, ("q", "v")),
        Case("bart", bart, _pair, ("q_proj", "v_proj")),
        Case("vit", vit, _image, ("q_proj", "v_proj")),
        Case("whisper", whisper, _audio, ("q_proj", "v_proj")),
        Case("fused", fused, lambda: {"x": _x()}, ("qkv",)),
        Case("sequential", sequential, lambda: {"input": _x()}, ("0", "3")),
    )
}
