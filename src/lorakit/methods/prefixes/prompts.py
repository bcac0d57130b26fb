"""Where prompts end: the model with the head sees it, and its backbone puts the infix there.

In training, before the first label that counts; in generation, at the end of the input of
`generate`, in each of its steps. Else the prompt is the whole input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.methods.prefixes.state import Prompt, here
from lorakit.surgery.disabling import Disableable

_IGNORED = -100
"""The label of a token that the loss ignores, as in torch's cross_entropy."""


class Prompts(nn.Module):
    """What a model that generates says of its prompts."""

    def __init__(self, arguments: Sequence[str], infix: int) -> None:
        super().__init__()
        self.arguments, self.infix_length = tuple(arguments), infix


class KnowsPrompts(Disableable):
    """A mixin in front of the class of a causal model that generates."""

    prefix: Prompts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = here.prompt
        if self.is_off() or (before is not None and before.whose is self.prefix):
            return super().__call__(*args, **kwargs)
        labels = (dict(zip(self.prefix.arguments, args, strict=False)) | kwargs).get("labels")
        if labels is None and self.prefix.infix_length and self.training:
            raise StateError(
                "In training the infix stands before the first label, and the model got no labels "
                "(label smoothing takes them away)."
            )
        ends = None if labels is None else _before_labels(labels)
        here.prompt = Prompt(self.prefix, ends)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            here.prompt = before

    def generate(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers' `generate`."""
        model: Any = super()
        if self.is_off():
            return model.generate(inputs, *args, **kwargs)
        _require_empty(kwargs.get("past_key_values"))
        given = (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
        prompt = next((tensor for tensor in given if tensor is not None), None)
        ends = 1 if prompt is None else prompt.shape[1]
        before, here.prompt = here.prompt, Prompt(self.prefix, ends)
        try:
            return model.generate(inputs, *args, **kwargs)
        finally:
            here.prompt = before


def _before_labels(labels_BN: Tensor) -> Tensor:
    """(B,): the tokens before the first label; all of a row without labels."""
    counted = labels_BN != _IGNORED
    first = counted.int().argmax(1)
    return torch.where(counted.any(1), first, labels_BN.shape[1])


def _require_empty(cache: Any) -> None:
    if cache is not None and cache.get_seq_length() > 0:
        raise StateError(
            "generate cannot continue from a cache with virtual tokens, since it takes its length "
            "for that of the text; pass the whole text and no past_key_values."
        )
