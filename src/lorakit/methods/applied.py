"""What a model remembers of the method that prepared it.

LoRA needs no such note: the adapters themselves and the record of `inject` say everything, and
layers that were built by hand have neither recipe nor method. A note counts as long as the
injection beneath it is the one that it was made with, so `lorakit.eject` and a later
`lorakit.inject` end it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorakit.errors import StateError
from lorakit.injection.adaptation import record_of, records
from lorakit.injection.inspection.health import forget_training_start
from lorakit.layers.conversion import lora_layers

_NOTE = "_lorakit_method"


@dataclass(frozen=True)
class Applied:
    """A method and its settings on a model."""

    method: str
    config: Any
    required_grad: Mapping[str, bool]
    """Whether each parameter required a gradient before."""
    injection: object
    """The record of the injection that the method made; None if it made none."""


def applied_to(model: nn.Module) -> Applied | None:
    """The note on this model, if it still holds."""
    note: Applied | None = model.__dict__.get(_NOTE)
    return note if note is not None and note.injection is record_of(model) else None


def remember(model: nn.Module, method: str, config: Any, required_grad: Mapping[str, bool]) -> None:
    """Note what was done to the model."""
    model.__dict__[_NOTE] = Applied(method, config, required_grad, record_of(model))


def forget(model: nn.Module) -> None:
    """Take the note off, and give requires_grad back as it was."""
    note: Applied = model.__dict__.pop(_NOTE)
    for name, parameter in model.named_parameters():
        if name in note.required_grad:
            parameter.requires_grad_(note.required_grad[name])
    forget_training_start(model)


def has_lora(model: nn.Module) -> bool:
    """Whether LoRA's adapters, or what `inject` trains in full, are on this model."""
    if applied_to(model) is not None:
        return False
    notes = [module.__dict__.get(_NOTE) for module in model.modules()]
    noted = [note.injection for note in notes if note is not None]
    injected = any(all(record is not n for n in noted) for _, record in records(model))
    return injected or any(True for _ in lora_layers(model))


def require_plain(model: nn.Module) -> None:
    """Raise StateError for a model that a method has prepared already."""
    kind, note = type(model).__name__, applied_to(model)
    if note is not None:
        raise StateError(
            f"This {kind} is prepared by the method {note.method} already; load the base again, "
            f"or take that off with lorakit.methods.find({note.method!r}).undo(model)."
        )
    if has_lora(model):
        raise StateError(
            f"This {kind} has adapters already. Take them out with lorakit.eject, or make them "
            "part of the weights with lorakit.fold."
        )
