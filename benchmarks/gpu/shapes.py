"""The models and the numbers of tokens that are measured on a device."""

from __future__ import annotations

import gc
from copy import deepcopy

import torch
from torch import Tensor, nn

from benchmarks import inputs, training_step
from benchmarks.inputs import Model
from benchmarks.registry import Settings

DTYPE = torch.bfloat16
DROPOUTS = (0.0, 0.1)
LENGTH = 512
"""Tokens of a row, without padding; what RoBERTa has positions for."""

MODELS = (
    Model(
        "RoBERTa-large",
        inputs.roberta,
        inputs.sizes(24, 1024, 4096, 16, **inputs.LONG),
        *inputs.BERT_TARGETS,
    ),
    Model(
        "Llama-shaped, 1.2 B",
        inputs.llama,
        inputs.sizes(16, 2048, 8192, 32, num_key_value_heads=8, vocab_size=128256),
        *inputs.LLAMA_TARGETS,
    ),
)


def models(settings: Settings) -> tuple[Model, ...]:
    return inputs.SMALL[1:] if settings.quick else MODELS


def tokens(settings: Settings) -> tuple[int, ...]:
    """Of a step; those that the goals are about come first."""
    return (16,) if settings.quick else (2048, 8192, 512)


def build(settings: Settings, model: Model) -> nn.Module:
    """Random weights, drawn on the device."""
    torch.manual_seed(settings.seed)
    with torch.device(settings.device):
        return model.build(**model.sizes).to(DTYPE).train()


def batch(settings: Settings, model: Model, count: int) -> Tensor:
    """So many tokens, in rows of equal length."""
    length = min(LENGTH, count)
    size = (count // length, length)
    return torch.randint(model.sizes["vocab_size"], size, device=settings.device)


def share(base: nn.Module) -> nn.Module:
    """A copy with modules of its own and the same Parameters."""
    return deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})


def floor(base: nn.Module, model: Model) -> nn.Module:
    """The base's weights, frozen by this, in which backward goes as far as any adapter's needs."""
    copy = share(base).requires_grad_(False)
    return training_step.needing_gradients(copy, training_step.first(base, model.query_value))


def biased_floor(base: nn.Module, model: Model) -> nn.Module:
    """The same for torch.compile, which would cut the model at a hook: a bias there trains."""
    copy = share(base).requires_grad_(False)
    for name in training_step.first(base, model.query_value):
        layer = copy.get_submodule(name)
        layer.bias = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))
    return copy


def free_memory(device: str) -> None:
    """Give back what nothing refers to, so that the next cell finds the device as this one did."""
    gc.collect()
    if device != "cpu":
        torch.accelerator.empty_cache()
