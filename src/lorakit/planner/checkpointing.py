"""The kinds of gradient checkpointing: a block's activations are computed again in the backward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Checkpointing = bool | Literal["non_reentrant", "reentrant"]

KINDS: Mapping[Checkpointing, Mapping[str, Any]] = {
    "non_reentrant": {"use_reentrant": False},
    "reentrant": {"use_reentrant": True},
}
"""By name, what transformers calls `gradient_checkpointing_kwargs`."""


def kind_of(checkpointing: Checkpointing) -> Checkpointing:
    """A key of `KINDS`, or False for none; True is the kind of transformers' Trainer.

    >>> kind_of(True), kind_of("reentrant"), kind_of(False)
    ('non_reentrant', 'reentrant', False)
    """
    return "non_reentrant" if checkpointing is True else checkpointing


def can_checkpoint(model: Any) -> bool:
    """Whether transformers can turn gradient checkpointing on for this model."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def checkpoint(model: Any, checkpointing: Checkpointing = True) -> None:
    """Turn transformers' gradient checkpointing on."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # since transformers 5.23
    (enable or model.gradient_checkpointing_enable)(dict(KINDS[kind_of(checkpointing)]))
