"""A learned number leaves the run in its own units: they are folded into the last layer.

A regression trains on z = (y - mean) / scale. With a last layer z = w h + b, whatever reads the
model's files gets y from

    y = (scale w) h + (scale b + mean)

Heads of decoders have no bias: then the mean stays with the task, which adds it to predictions, and
so it does with both if the last layer is not a plain linear one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lorakit.layers.base import AdapterLayer
from lorakit.models.heads import output_layer
from lorakit.tasks.base import Task


def fold_units(model: Any, task: Task) -> Task:
    """Let the model's last layer give the task's numbers; the task for it is returned."""
    names, layer = _last_layer(model)
    if layer is None:
        return task
    with torch.no_grad():
        layer.weight.mul_(task.units.scale)
        if layer.bias is not None:
            layer.bias.mul_(task.units.scale).add_(task.units.mean)
    return task.with_folded_units(names)


def unfold_units(model: Any, task: Task) -> None:
    """Let a last layer that gives the task's numbers give those that training learns."""
    _, layer = _last_layer(model)
    if layer is None:
        return
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.sub_(task.units.mean).div_(task.units.scale)
        layer.weight.div_(task.units.scale)


def _last_layer(model: Any) -> tuple[list[str], nn.Linear | None]:
    """The layer that gives the logits of a head, with its tensors' names, if it is a plain one."""
    names = output_layer(dict(model.named_parameters()))
    layer = model.get_submodule(names[0].rpartition(".")[0]) if names else None
    is_plain = isinstance(layer, nn.Linear) and not isinstance(layer, AdapterLayer)
    return names, layer if is_plain else None
