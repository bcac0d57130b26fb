"""BERT and GPT-2 with bottleneck adapters, written out: what the methods must equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

Parameters = Mapping[str, Tensor]
Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Adapters:
    """The adapters of one model, by the full name of the module that owns them."""

    parameters: Parameters
    activation: Activation

    def delta(self, owner: str, x: Tensor) -> Tensor:
        """W_up f(W_down x + b_down) + b_up; zero where there is no adapter."""
        own = {leaf: self.parameters.get(f"{owner}.adapter.{leaf}") for leaf in LEAVES}
        if own["down"] is None:
            return torch.zeros_like(x)
        if own["norm"] is not None:
            x = layer_norm(x, x.shape[-1:], own["norm"], own["norm_bias"])
        inner = self.activation(linear(x, own["down"], own["down_bias"]))
        return linear(inner, own["up"], own["up_bias"])


LEAVES = ("norm", "norm_bias", "down", "down_bias", "up", "up_bias")


def bert(model: nn.Module, adapters: Adapters, tokens: Tensor) -> Tensor:
    """The last hidden states of a BertModel, post-LN, without dropout."""
    x = model.embeddings(tokens)
    for index, layer in enumerate(model.encoder.layer):
        name, delta = f"encoder.layer.{index}", adapters.delta
        attended = layer.attention.output.dense(layer.attention.self(x)[0])
        attended = attended + delta(f"{name}.attention.output.dropout", attended)
        x = layer.attention.output.LayerNorm(x + attended)
        inner = gelu(layer.intermediate.dense(x))
        given = layer.output.dense(inner)
        given = given + delta(f"{name}.output.dropout", given)
        norm, total = layer.output.LayerNorm, x + given
        weights = (norm.weight.shape, norm.weight, norm.bias, norm.eps)
        total = total + delta(f"{name}.output.LayerNorm", layer_norm(total, *weights))
        x = layer_norm(total, *weights)
        x = x + delta(name, x)
    return x


def gpt2(model: nn.Module, adapters: Adapters, tokens: Tensor) -> Tensor:
    """The last hidden states of a GPT2Model, pre-LN, without dropout."""
    x = model.wte(tokens) + model.wpe(torch.arange(tokens.shape[1]))
    for index, block in enumerate(model.h):
        name, delta = f"h.{index}", adapters.delta
        attended = attention(block.attn, block.ln_1(x))
        x = x + attended + delta(f"{name}.attn", attended)
        given = block.mlp.c_proj(block.mlp.act(block.mlp.c_fc(block.ln_2(x))))
        x = x + given + delta(f"{name}.mlp", given)
        x = x + delta(name, x)
    return model.ln_f(x)


def attention(attn: nn.Module, x: Tensor) -> Tensor:
    """GPT-2's causal attention."""
    query, key, value = (
        part.unflatten(-1, (attn.num_heads, attn.head_dim)).transpose(1, 2)
        for part in attn.c_attn(x).split(x.shape[-1], dim=-1)
    )
    scores = query @ key.transpose(-1, -2) / attn.head_dim**0.5
    later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ value
    return attn.c_proj(mixed.transpose(1, 2).flatten(-2))
