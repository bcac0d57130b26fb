"""LoRA+ as in PEFT: the groups of `create_loraplus_optimizer`, and the weights after steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import lorakit as lora
from lorakit.training import group_parameters
from tests.tolerances import TOLERANCES

RATIO, RATE, DECAY = 16, 1e-3, 0.1
LLAMA = LlamaConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
)
LINEAR = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
EMBEDDING = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "embed_tokens"]}
DORA = {**LINEAR, "use_dora": True}


def models(settings: dict[str, Any], path: Path) -> tuple[nn.Module, Any]:
    """The same adapter, loaded by lorakit and by PEFT."""
    torch.manual_seed(0)
    ours = LlamaForCausalLM(LLAMA)
    lora.inject(ours, lora.LoraConfig(**settings))
    lora.save_adapter(ours, path)
    torch.manual_seed(0)
    theirs = peft.PeftModel.from_pretrained(LlamaForCausalLM(LLAMA), path, is_trainable=True)
    return ours, theirs


def plain_name(name: str) -> str:
    """PEFT's name of a parameter as lorakit has it."""
    name = name.removeprefix("base_model.model.").replace(".default", "")
    return name.replace("lora_embedding_", "lora_").removesuffix(".weight")


def groups_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    names = {id(p): plain_name(n) for n, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize(
    ("settings", "patterns"),
    [
        (LINEAR, {}),
        # PEFT's default for adapted embeddings, and vectors at B's rate.
        (EMBEDDING, {"embed_tokens": 1e-6}),
        (DORA, {"lora_magnitude_vector": RATE * RATIO}),
    ],
)
def test_groups_and_weights_are_pefts(settings, patterns, tmp_path):
    ours, theirs = models(settings, tmp_path)
    our_optimizer = torch.optim.AdamW(
        group_parameters(ours, RATE, DECAY, loraplus_lr_ratio=RATIO, learning_rate_pattern=patterns)
    )
    their_optimizer = create_loraplus_optimizer(
        theirs,
        torch.optim.AdamW,
        lr=RATE,
        loraplus_lr_ratio=RATIO,
        loraplus_weight_decay=DECAY,
    )
    assert groups_of(our_optimizer, ours) == groups_of(their_optimizer, theirs)
    for step in range(5):
        tokens = torch.arange(8).reshape(1, 8) + step
        for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
            model.train()
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    trained = {n: p for n, p in ours.named_parameters() if p.requires_grad}
    expected = {plain_name(n): p for n, p in theirs.named_parameters() if p.requires_grad}
    assert trained.keys() == expected.keys()
    for name, parameter in trained.items():
        torch.testing.assert_close(parameter, expected[name], **TOLERANCES[torch.float32])
