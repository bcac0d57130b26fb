"""Models with virtual tokens, written out for one text: what the methods must equal.

p p x x x i i y y        p prefix, x prompt, i infix, y completion
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.methods.prefixes.models import ENCODERS, Text


def logits(model: Any, kind: str, text: Text, rows: Tensor, prefix: int) -> Tensor:
    """The plain model's logits for a text; of the target of T5 the decoder's.

    `rows` are the virtual tokens' word embeddings (V, d), or activations (V, L, d).
    """
    count, infix = len(rows), len(rows) - prefix
    end = prefix + text.prompt
    states = hidden(model, kind, text, rows, prefix)
    if kind == "t5":
        return states  # the encoder's; the decoder sees all of them
    own = [*range(prefix, end), *range(end + infix, count + len(text.ids))]
    if kind in ENCODERS:
        body = getattr(model, kind)
        seen = states[:, own]
        pooled = seen if body.pooler is None else body.pooler(seen)
        return model.classifier(pooled)
    if infix:
        own[text.prompt - 1] = end + infix - 1
    return model.get_output_embeddings()(states[:, own])


def hidden(model: Any, kind: str, text: Text, rows: Tensor, prefix: int) -> Tensor:
    """The last hidden states (1, T, d)."""
    stack, embed, end = STACKS[kind](model), model.get_input_embeddings(), text.prompt
    known = embed(text.ids)
    first = rows if rows.ndim == 2 else torch.zeros_like(rows[:, 0])
    parts = [first[:prefix], known[:end], first[prefix:], known[end:]]
    x = stack.start(torch.cat(parts)[None])
    places = [*range(prefix), *range(prefix + end, end + len(rows))]
    for number, block in enumerate(stack.blocks):
        if rows.ndim == 3:
            x = x.clone()
            x[0, places] = rows[:, number]
        x = stack.step(block, x)
    return stack.finish(x)


class Bert:
    def __init__(self, model: Any) -> None:
        self.body = getattr(model, model.base_model_prefix)
        self.blocks = self.body.encoder.layer

    def start(self, x: Tensor) -> Tensor:
        return self.body.embeddings(inputs_embeds=x)

    def step(self, block: Any, x: Tensor) -> Tensor:
        return block(x)

    def finish(self, x: Tensor) -> Tensor:
        return x


class Gpt2:
    def __init__(self, model: Any) -> None:
        self.body = model.transformer
        self.blocks = self.body.h

    def start(self, x: Tensor) -> Tensor:
        return x + self.body.wpe(torch.arange(x.shape[1]))

    def step(self, block: Any, x: Tensor) -> Tensor:
        return block(x, attention_mask=causal(x))

    def finish(self, x: Tensor) -> Tensor:
        return self.body.ln_f(x)


class Llama:
    def __init__(self, model: Any) -> None:
        self.body = model.model
        self.blocks = self.body.layers

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, block: Any, x: Tensor) -> Tensor:
        turns = self.body.rotary_emb(x, position_ids=torch.arange(x.shape[1])[None])
        return block(x, attention_mask=causal(x), position_embeddings=turns)

    def finish(self, x: Tensor) -> Tensor:
        return self.body.norm(x)


class T5:
    def __init__(self, model: Any) -> None:
        self.body = model.encoder
        self.blocks = self.body.block
        self.bias = None

    def start(self, x: Tensor) -> Tensor:
        return x

    def step(self, block: Any, x: Tensor) -> Tensor:
        x, self.bias, *_ = block(x, None, self.bias)
        return x

    def finish(self, x: Tensor) -> Tensor:
        return self.body.final_layer_norm(x)


STACKS: dict[str, Any] = {"bert": Bert, "roberta": Bert, "gpt2": Gpt2, "llama": Llama, "t5": T5}


def causal(x: Tensor) -> Tensor:
    """The mask in which a place sees those before it."""
    size = x.shape[1]
    return torch.full((size, size), -torch.inf, dtype=x.dtype).triu(1)[None, None]
