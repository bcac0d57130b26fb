"""`lorakit.targets`: the layers of a model that could be adapted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import UninitializedParameter

from lorakit.injection.selection.naming import without_indices
from lorakit.layers import conversion, refusals
from lorakit.layers.readers import reader_problem
from lorakit.surgery.foreign import require_no_peft
from lorakit.text import table
from lorakit.variants import Site


@dataclass(frozen=True)
class TargetGroup:
    """Layers that differ only in their position."""

    suffix: str
    """The last part of the names: what `target_modules` would take."""
    name: str
    count: int
    type: str
    in_features: int
    out_features: int
    parameters: int
    """A and B of all of them, at the rank asked for."""


@dataclass(frozen=True)
class Targets:
    """The layers of a model that can be adapted, and those with a weight matrix that cannot."""

    r: int
    groups: tuple[TargetGroup, ...]
    refused: dict[str, str]
    """Modules with a weight matrix that cannot be adapted, and why."""

    def __str__(self) -> str:
        rows: list[tuple[object, ...]] = [
            ("suffix", "layers", "count", "type", "in", "out", f"parameters at r={self.r}")
        ]
        for g in self.groups:
            size = f"{g.parameters:,}"
            rows.append((g.suffix, g.name, g.count, g.type, g.in_features, g.out_features, size))
        refused = [f"  - {name} {why}" for name, why in self.refused.items()]
        return "\n".join([*table(rows), *(["cannot be adapted:", *refused] if refused else [])])


def targets(model: nn.Module, r: int = 8) -> Targets:
    """The layers of `model` that could be adapted, by suffix: count, shape, parameters at rank `r`.

    A layer of I inputs and O outputs gets r * (I + O) parameters; a convolution counts its kernel
    positions among the inputs, and in G groups it has r * (I + O) / G.

    Raises StateError for a model with PEFT's modules.

    >>> targets(nn.Sequential(nn.Linear(4, 6)), r=2).groups[0].parameters
    20
    """
    require_no_peft(model)
    members: dict[tuple[str, str, Site], list[str]] = {}
    refused: dict[str, str] = {}
    for name, module in model.named_modules():
        if not name or not any(map(_is_weight_matrix, module._parameters.values())):
            continue
        parent, _, child = name.rpartition(".")
        reason = refusals.refusal(module)
        reason = reason or reader_problem(model.get_submodule(parent), child)
        reason = reason or conversion.site_of(module).rank_problem(r)
        if reason is None:
            key = (without_indices(name), type(module).__name__, conversion.site_of(module))
            members.setdefault(key, []).append(name)
        else:
            refused.setdefault(without_indices(name), reason)
    groups = tuple(
        TargetGroup(
            suffix=names[0].rpartition(".")[2],
            name=group,
            count=len(names),
            type=kind,
            in_features=site.in_features,
            out_features=site.out_features,
            parameters=len(names) * sum(map(math.prod, site.factor_shapes(r))),
        )
        for (group, kind, site), names in members.items()
    )
    return Targets(r, groups, refused)


def _is_weight_matrix(parameter: nn.Parameter | None) -> bool:
    """Whether it has two or more dimensions, or is not initialized yet."""
    if parameter is None or isinstance(parameter, UninitializedParameter):
        return parameter is not None
    return parameter.ndim > 1
