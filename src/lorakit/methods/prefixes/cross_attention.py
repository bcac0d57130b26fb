"""A decoder that attends to the virtual tokens in the output of its encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from lorakit.errors import StateError
from lorakit.methods.prefixes.layout import layout, real_tokens
from lorakit.surgery.disabling import Disableable


class EncodedTokens(nn.Module):
    """How many virtual tokens are in the output of the encoder that a decoder reads."""

    def __init__(self, prefix: int, infix: int, arguments: Sequence[str]) -> None:
        super().__init__()
        self.prefix_length, self.infix_length = prefix, infix
        self.arguments = tuple(arguments)


class SeesVirtualTokens(Disableable):
    """A mixin in front of a decoder's class, which extends the mask of the encoder's output."""

    prefix: EncodedTokens

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_off():
            return super().__call__(*args, **kwargs)
        given = dict(zip(self.prefix.arguments, args, strict=False)) | kwargs
        states, mask = given.get("encoder_hidden_states"), given.get("encoder_attention_mask")
        if states is None or mask is None:
            return super().__call__(**given)
        tokens = self.prefix
        count = tokens.prefix_length + tokens.infix_length
        if mask.ndim != 2 or states.shape[1] != mask.shape[1] + count:
            raise StateError(
                f"The encoder's output has {states.shape[1]} places and its mask the shape "
                f"{tuple(mask.shape)}; with {count} virtual tokens the one should be as much "
                "longer. Let the model's own encoder compute it."
            )
        lengths = (tokens.prefix_length, tokens.infix_length)
        place = layout(*lengths, *real_tokens(mask), mask.shape[1], causal=False)
        ones = mask.new_ones(len(mask), count)
        return super().__call__(**{**given, "encoder_attention_mask": place.spread(mask, ones)})
