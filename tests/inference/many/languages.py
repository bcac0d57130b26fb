"""A small language model with a vocabulary of words, and adapters of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lorakit.tasks import Chat, Generation, Task
from tests.inference.many.files import save_trained

WORDS = [f"w{i}" for i in range(60)]
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
PLAIN = Generation(("prompt",), "answer", 64)
LINEAR = ["q_proj", "v_proj", "down_proj"]
CONFIGS: dict[str, dict[str, Any]] = {
    "legal": {"r": 4, "lora_alpha": 32, "target_modules": LINEAR},
    "poems": {"r": 2, "lora_alpha": 8, "target_modules": LINEAR[:1]},
    "dora": {"r": 3, "use_dora": True, "target_modules": LINEAR},
}


def save_llama(directory: Path) -> Path:
    """A Llama of two layers, whose texts are long and short."""
    words = ["<pad>", "<eos>", "<unk>", "user", "assistant", *WORDS]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.5, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[1] *= 3  # some texts end early
    model.save_pretrained(directory)
    return directory


def save_writers(base: Path, directory: Path, task: Task = PLAIN) -> dict[str, str]:
    """An adapter for each config, by its name."""
    return {
        name: str(save_trained(base, directory / name, task, seed, **config))
        for seed, (name, config) in enumerate(CONFIGS.items())
    }


def save_talker(base: Path, path: Path, template: str = TEMPLATE) -> str:
    """An adapter for conversations, with this chat template."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    return str(
        save_trained(base, path, Chat(("prompt",), None, 64), 7, tokenizer, **CONFIGS["legal"])
    )
