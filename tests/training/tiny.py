"""Models, a tokenizer and tables that are small enough to train within a test."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LongformerConfig,
    LongformerForMaskedLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from lorakit.methods import METHODS
from lorakit.recipe.data import encode, prepare, split, with_guesses
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.training import train
from lorakit.training.arguments import make_trainer
from lorakit.training.model import adapt_model, load_model
from lorakit.training.trainer import LoraTrainer

GOOD = ["good", "great", "warm", "fine"]
BAD = ["bad", "dull", "cold", "poor"]
OTHER = ["the", "film", "was", "and", "very", "plot", "actor", "it"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *GOOD, *BAD, *OTHER]


def tokenizer() -> PreTrainedTokenizerFast:
    """One id a word."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        eos_token="[SEP]",
        model_max_length=40,
    )


def save_encoder(path: Path, dropout: float = 0.1) -> Path:
    """A random BERT with its tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertForMaskedLM(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def save_longformer(path: Path) -> Path:
    """A random Longformer with the same tokenizer."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LongformerConfig(
        vocab_size=len(WORDS), intermediate_size=16, attention_window=[4], **sizes
    )
    LongformerForMaskedLM(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def save_decoder(path: Path, dropout: float = 0.0) -> Path:
    """A random GPT-2 with the same tokenizer."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=40,
        bos_token_id=2,
        eos_token_id=3,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def save_llama(path: Path) -> Path:
    """A random Llama whose tokenizer has a chat template."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    words = tokenizer()
    words.chat_template = (
        "{% for m in messages %}{{ '[MASK] ' + m['content'] + ' [SEP] ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[MASK] ' }}{% endif %}"
    )
    words.save_pretrained(path)
    return path


def save_reviews(path: Path, rows: int = 60) -> Path:
    """Texts of one to twenty words; the label says which kind of word is in them."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            words = [draw.choice(OTHER) for _ in range(draw.randrange(20))]
            words.insert(draw.randrange(len(words) + 1), draw.choice(BAD if i % 2 else GOOD))
            writer.writerow([" ".join(words), ["pos", "neg"][i % 2]])
    return path


def recipe(base: Path, data: Path, output: Path, /, **sections: Any) -> Recipe:
    """A recipe of twelve steps in two epochs, with dropout in the adapters."""
    training = {
        "total_batch": 8,
        "epochs": 2,
        "evaluations": 4,
        "token_budget": 64,
        "learning_rate": 0.02,
        "dtype": "fp32",  # the same on every machine
    }
    return from_mapping(
        {
            "base": str(base),
            "output": str(output),
            "method": sections.get("method", "lora"),
            "data": {"train": str(data), "test": 12, **sections.get("data", {})},
            "lora": {"r": 2, "lora_dropout": 0.1, **sections.get("lora", {})},
            "training": {**training, **sections.get("training", {})},
            "loss": sections.get("loss", {}),
            "init_adapter": sections.get("init_adapter"),
            **{name: sections[name] for name in METHODS if name in sections and name != "lora"},
        }
    )


def save_completions(path: Path, rows: int = 28) -> Path:
    """Prompts with completions of one to nine words."""
    draw = random.Random(1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "completion"])
        for _ in range(rows):
            prompt = [draw.choice(OTHER) for _ in range(draw.randrange(1, 9))]
            completion = [draw.choice([*GOOD, *BAD]) for _ in range(draw.randrange(1, 10))]
            writer.writerow([" ".join(prompt), " ".join(completion)])
    return path


def trainer_of(recipe: Recipe, log: Callable[[str], None] | None = None) -> LoraTrainer:
    """The trainer that a run of this recipe makes."""
    recipe = with_guesses(recipe, _silent)
    set_seed(recipe.training.seed)
    tables = split(recipe.data)
    words, task = prepare(recipe, tables["train"])
    data = {n: encode(task, words, table, n, _silent)[0] for n, table in tables.items()}
    model, head = load_model(recipe, task)
    adapt_model(recipe, model, head)
    return make_trainer(recipe, model, task, words, data, Path(recipe.output), log or _silent)


class Interrupted(Exception):
    """Stands for the end of a process."""


def do_at_step(patch: pytest.MonkeyPatch, step: int, action: Callable[[], Any]) -> None:
    """Let runs do something when this many steps are done."""
    whole = LoraTrainer.training_step

    def with_action(self: LoraTrainer, *arguments: Any) -> torch.Tensor:
        if self.state.global_step == step:
            action()
        return whole(self, *arguments)

    patch.setattr(LoraTrainer, "training_step", with_action)


def interrupt(recipe: Recipe, step: int) -> None:
    """Train by the recipe until this many steps are done."""

    def stop() -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        do_at_step(patch, step, stop)
        with pytest.raises(Interrupted):
            train(recipe, _silent)


def weights(trainer: LoraTrainer) -> dict[str, torch.Tensor]:
    """Copies of everything that trains."""
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def adapter_of(output: Path) -> dict[str, torch.Tensor]:
    """The adapter that a run has saved."""
    return load_file(output / "adapter/adapter_model.safetensors")


def assert_same(one: dict[str, Any], other: dict[str, Any], **tolerance: float) -> None:
    """The same names with the same values; bit for bit without a tolerance."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        exact = {"rtol": 0.0, "atol": 0.0} | tolerance
        torch.testing.assert_close(value, other[name], **exact, msg=lambda m, n=name: f"{n}: {m}")


def _silent(text: str) -> None:
    pass
