"""A random Llama whose chat template ends a turn with another token than its end of text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lorakit.recipe.schema import Recipe, from_mapping
from tests.training.tiny import BAD, GOOD, OTHER

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = [*SPECIAL, "[UNK]", "user", "assistant", *GOOD, *BAD, *OTHER]
END_OF_TEXT, END_OF_TURN = 0, 2
CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|> ' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant\n' }}{% endif %}"
)
ENDLESS = CHATML.replace("<|im_end|>", "")
ANSWERS = {"the film": "good fine", "the plot": "bad", "very": "dull dull dull"}


def save_llama(path: Path, template: str = CHATML) -> Path:
    """The model's own end is <|endoftext|>, as that of a base that was not taught to chat."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
        bos_token_id=None,
        initializer_range=0.4,
        eos_token_id=END_OF_TEXT,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer(template).save_pretrained(path)
    return path


def tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    """One id a word, and no padding token."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=SPECIAL[END_OF_TEXT],
        unk_token="[UNK]",
        additional_special_tokens=SPECIAL[1:],
        model_max_length=40,
        chat_template=template,
    )


def save_conversations(path: Path) -> Path:
    """Three questions, eight times each."""
    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in ANSWERS.items()
    ]
    lines = [json.dumps({"messages": row}) for row in rows * 8]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def recipe(base: Path, data: Path, output: Path, epochs: float = 20, **settings: Any) -> Recipe:
    """A recipe that learns the answers by heart."""
    return from_mapping(
        {
            "base": str(base),
            "output": str(output),
            "data": {"train": str(data), "test": 3, **settings},
            "lora": {"r": 16, "lora_alpha": 32},
            "training": {
                "epochs": epochs,
                "learning_rate": 0.02,
                "total_batch": 8,
                "evaluations": 1,
                "dtype": "fp32",
            },
        }
    )
