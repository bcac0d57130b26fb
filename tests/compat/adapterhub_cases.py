"""Models, inputs and numbers that lorakit's tests and `adapterhub_library.py` make alike.

Every weight follows from its name and shape, so the two programs, which run with different releases
of transformers, compute with the same numbers.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn

D, R, LAYERS = 8, 2, 2
BERT = {
    "vocab_size": 20, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT | {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {
        "vocab_size": 20, "dim": D, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 12,
        "max_position_embeddings": 16, "dropout": 0.0, "attention_dropout": 0.0,
    },
    "gpt2": {
        "vocab_size": 20, "n_embd": D, "n_layer": LAYERS, "n_head": 2, "n_positions": 16,
        "resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0,
    },
    "t5": {
        "vocab_size": 20, "d_model": D, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2,
        "dropout_rate": 0.0,
    },
    "bart": {
        "vocab_size": 20, "d_model": D, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 12, "max_position_embeddings": 16, "dropout": 0.0,
    },
    "llama": {
        "vocab_size": 20, "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 12, "max_position_embeddings": 16,
    },
}  # fmt: skip
KINDS = ("houlsby", "pfeiffer")


def fill(name: str, tensor: Tensor) -> None:
    """Numbers between -0.3 and 0.3 that depend on the name alone; of a norm's weight, around 1."""
    seed = zlib.crc32(name.encode())
    numbers = torch.arange(tensor.numel(), dtype=torch.float64) * (1 + seed % 997 / 997) + seed % 89
    is_norm = tensor.ndim == 1 and name.endswith("weight")
    tensor.copy_((0.3 * numbers.sin() + is_norm).view(tensor.shape))


def fill_base(model: nn.Module) -> None:
    """All parameters that the base has."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter" not in name:
                fill(name, parameter)


def inputs(model: nn.Module) -> dict[str, Tensor]:
    """Token ids; for an encoder-decoder also of the decoder."""
    ids = (torch.arange(10).view(2, 5) * 7) % 16 + 3
    if model.config.is_encoder_decoder:
        return {"input_ids": ids, "decoder_input_ids": ids[:, :4] + 1}
    return {"input_ids": ids}


def loss_of(output: Tensor) -> Tensor:
    """A number that depends on every element of the output."""
    return (output * torch.arange(output.numel()).view(output.shape).sin()).sum()
