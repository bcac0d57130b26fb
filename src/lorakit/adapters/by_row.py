"""Which tensors of a module may differ from row to row of a batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lorakit.errors import TargetError
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.layer_groups import group_layers
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_class_of
from lorakit.layers.readers import reader_of
from lorakit.layers.refusals import overridden_forward
from lorakit.variants.parameter_site import parameters_of
from lorakit.variants.site import Sited


def require_by_row(
    model: nn.Module, slots: Mapping[str, Slot], adapters: Mapping[str, Sited], message: str
) -> None:
    """Raise TargetError with this message for tensors, by name, that are one for all rows.

    `slots` are what is trained in full, `adapters` those of LoRA.
    """
    problems = [(name, _OF_ITS_MODULE) for name in parameters_of(adapters)]
    for key, (module, leaf) in slots.items():
        if (reader := reader_of(model, key.rpartition(".")[0])) is not None:
            reads = f"is read by {type(reader).__name__}, which never calls its module's forward"
            problems.append((key, reads))
        elif problem := _not_by_row(module, leaf) or overridden_forward(module):
            problems.append((key, problem))
    if problems:
        raise TargetError(message, group_layers(problems))


_OF_ITS_MODULE = "is a parameter that its module reads itself, for the tokens of all rows"


def _not_by_row(module: nn.Module, leaf: str) -> str | None:
    """Why this tensor cannot differ from row to row; None if it can."""
    kind = type(module).__name__
    if leaf not in module._parameters:
        return f"is a buffer of {kind}, which all rows share"
    if next(module.children(), None) is not None:
        return f"is a parameter of {kind} itself, whose forward is more than a function of rows"
    known = isinstance(module, AdapterLayer) or lora_class_of(module) is not None
    if known or isinstance(module, nn.LayerNorm | nn.GroupNorm) or kind.endswith(_NORMS):
        return None
    return f"is a parameter of {kind}, of which it is not known that each row is by itself"


_NORMS = ("RMSNorm", "LayerNorm")
"""Ends of the names of classes that normalise each row by itself, torch's and transformers'."""
