"""The head of a classification or regression model in float32, whatever its body computes in.

Logits in bfloat16 keep eight bits: near 2.7 they are multiples of 1/64, so that many predictions of
a regression become one number. The product of the head is a small part of a forward, so it is
computed in float32 outside of autocast, and so is what follows: logits, loss, predictions.

A language model's head is its vocabulary matrix, often tied to its embeddings, and stays in the
body's dtype; its softmax and its loss are float32 in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lorakit.functional.precision import without_autocast


def head_modules(model: Any) -> list[nn.Module]:
    """The modules beside the body of a transformers model; none of a language model."""
    body = getattr(model, "base_model", model)
    if body is model or model.get_output_embeddings() is not None:
        return []
    return [m for m in model.children() if m is not body and next(m.parameters(), None) is not None]


def head_names(model: Any) -> list[str]:
    """The names of `head_modules`."""
    heads = set(head_modules(model))
    return [name for name, module in model.named_children() if module in heads]


def keep_in_float32(module: nn.Module) -> None:
    """Let a module whose parameters are float32 compute in float32 under autocast too."""
    module.__dict__["forward"] = _Float32Forward(module)


@dataclass(frozen=True, eq=False)
class _Float32Forward:
    """The module's own forward; an object, so that a copied or pickled one runs its own weights."""

    module: nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        named = {name: _float32(value) for name, value in kwargs.items()}
        with without_autocast(next(self.module.parameters())):
            return type(self.module).forward(self.module, *map(_float32, args), **named)


def _float32(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_float else value
