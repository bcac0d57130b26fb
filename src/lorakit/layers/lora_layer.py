"""loralib's base class, for custom layers and for isinstance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class LoRALayer:
    """What loralib's layers share besides nn.Module: rank, alpha, dropout, merge flags.

    A custom layer derives from a torch class and from this, calls both constructors, registers
    parameters whose names begin with `lora_`, and has a forward that uses them.
    `mark_only_lora_as_trainable` and `lora_state_dict` recognise them by those names. Every layer
    of lorakit is an instance too, with its own attributes.

    `r` is the rank, `lora_alpha` the numerator of the scale `lora_alpha / r`, `lora_dropout` the
    probability of the dropout that it makes, and `merge_weights` whether evaluation may merge.

    Source: loralib's LoRALayer, https://github.com/microsoft/LoRA/blob/c4593f0/loralib/layers.py.

    >>> class Shift(nn.Linear, LoRALayer):
    ...     def __init__(self, features: int, r: int) -> None:
    ...         nn.Linear.__init__(self, features, features)
    ...         LoRALayer.__init__(self, r, lora_alpha=1, lora_dropout=0.0, merge_weights=False)
    >>> Shift(4, r=2).r
    2
    """

    def __init__(self, r: int, lora_alpha: float, lora_dropout: float, merge_weights: bool) -> None:
        attributes: Any = self
        attributes.r, attributes.lora_alpha = r, lora_alpha
        dropout: Callable[[Tensor], Tensor] = nn.Dropout(lora_dropout) if lora_dropout else _same
        attributes.lora_dropout = dropout
        attributes.merged, attributes.merge_weights = False, merge_weights


def _same(x: Tensor) -> Tensor:
    return x
