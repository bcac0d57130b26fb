"""The record, on a model, of the method that prepared it.

LoRA needs none: the adapters themselves and the record of `inject` are enough. A record is valid as
long as the model's injection is the one that it was made with, so `lorakit.eject` and a later
`lorakit.inject` invalidate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorakit.errors import StateError
from lorakit.injection.record import require_no_set
from lorakit.layers.conversion import lora_layers
from lorakit.methods.quantised import require_unquantised
from lorakit.surgery import alteration as alterations
from lorakit.surgery.alteration import Alteration, alteration, altered
from lorakit.surgery.foreign import require_no_peft


@dataclass(frozen=True)
class Applied:
    """A method and its settings on a model."""

    method: str
    config: Any
    required_grad: Mapping[str, bool]
    """Whether each parameter required a gradient before."""
    injection: object
    """The injection that the method made; None if it made none."""


def applied_to(model: nn.Module) -> Applied | None:
    """The record on this model, if it is still valid."""
    record = alteration(model)
    return _note(record) if record is not None else None


def remember(model: nn.Module, method: str, config: Any, required_grad: Mapping[str, bool]) -> None:
    """Record the method on the model."""
    record = altered(model)
    record.method = Applied(method, config, required_grad, record.injection)


def forget(model: nn.Module, note: Applied) -> None:
    """Remove the record, and restore requires_grad."""
    for name, parameter in model.named_parameters():
        if name in note.required_grad:
            parameter.requires_grad_(note.required_grad[name])
    alterations.forget(model)


def has_lora(model: nn.Module) -> bool:
    """Whether this model has LoRA adapters, or trained copies made by `inject`."""
    if applied_to(model) is not None:
        return False
    records = [record for m in model.modules() if (record := alteration(m)) is not None]
    injected = any(record.injection is not None and _note(record) is None for record in records)
    return injected or any(True for _ in lora_layers(model))


def require_plain(model: nn.Module) -> None:
    """Raise StateError for a model that is already prepared for a method, or has PEFT's modules,
    and TargetError for a quantised one."""
    require_no_peft(model)
    require_no_set(model)
    kind, note = type(model).__name__, applied_to(model)
    if note is not None:
        raise StateError(
            f"This {kind} is already prepared for the method {note.method}; load the base again, "
            f"or undo it with lorakit.methods.find({note.method!r}).undo(model)."
        )
    if has_lora(model):
        raise StateError(
            f"This {kind} already has adapters. Remove them with lorakit.eject, or merge them into "
            "the weights with lorakit.fold."
        )
    require_unquantised(model)


def _note(record: Alteration) -> Applied | None:
    note: Applied | None = record.method
    return note if note is not None and note.injection is record.injection else None
