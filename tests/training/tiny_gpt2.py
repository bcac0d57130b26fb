"""A GPT-2 with a byte-level vocabulary of its own, and a corpus for it, in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

NAMES = ("Blue Spice", "The Mill", "Café Sicilia", "Cocum")
FOODS = ("Italian", "Chinese", "English")
AREAS = ("riverside", "city centre")


def save_gpt2(path: Path, dropout: float = 0.1, layers: int = 2, spread: float = 0.02) -> Path:
    """A random GPT-2 and a tokenizer with one token for the beginning and the end, as GPT-2's."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    texts = [f"{name} serves {food} food.\n\n" for name in NAMES for food in FOODS]
    inner.train_from_iterator(texts * 3, trainer)
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=end, eos_token=end, model_max_length=128
    )
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=layers,
        n_head=2,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        initializer_range=spread,
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def save_e2e(path: Path, rows: int = 24) -> Path:
    """Restaurants with one to three sentences each, as E2E's CSV file."""
    draw = random.Random(0)
    lines = ["mr,ref"]
    for _ in range(rows):
        name, food, area = (draw.choice(values) for values in (NAMES, FOODS, AREAS))
        meaning = f'"name[{name}], food[{food}], area[{area}]"'
        lines.append(f"{meaning},{name} serves {food} food in the {area}.")
        lines.append(f"{meaning},The {food} {name} is in the {area}.")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
