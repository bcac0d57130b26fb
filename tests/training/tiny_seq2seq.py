"""Random encoder-decoders with the tokenizer of `tiny`, and pairs for them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.training import tiny

PAIRS = [("the film was", "good fine"), ("the plot was", "bad"), ("very", "dull dull dull"),
         ("it was a very dull film", "great")]  # fmt: skip
SPECIAL = {"pad_token_id": 0, "eos_token_id": 3}


def t5() -> PreTrainedModel:
    """Relative positions; decoding starts with the padding token."""
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tiny.WORDS), dropout_rate=0.0, decoder_start_token_id=0, **sizes,
            **SPECIAL,
        )
    )  # fmt: skip


def bart() -> PreTrainedModel:
    """Learned positions; decoding starts with EOS. Its generation config has habits of its own."""
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": 2, "attention_heads": 4, "ffn_dim": 64}.items()
    }
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tiny.WORDS), d_model=32, max_position_embeddings=40, dropout=0.0,
            bos_token_id=2, decoder_start_token_id=3, forced_eos_token_id=3, init_std=0.1, **sides,
            **SPECIAL,
        )
    )  # fmt: skip
    model.generation_config.update(no_repeat_ngram_size=2, min_length=8, num_beams=4)
    return model


MODELS = {"t5": t5, "bart": bart}


def save_seq2seq(path: Path, kind: str) -> Path:
    torch.manual_seed(0)
    MODELS[kind]().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def save_pairs(path: Path, repeat: int = 12) -> Path:
    rows = [{"prompt": prompt, "completion": said} for prompt, said in PAIRS * repeat]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path
