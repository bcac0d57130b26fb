"""`lorakit.targets`: the layers of a model that could be adapted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import ParametrizationList

from lorakit.injection.selection.naming import last_parts
from lorakit.layer_groups import without_indices
from lorakit.layers import conversion, refusals
from lorakit.layers.parameter import ModuleParameter
from lorakit.layers.readers import reader_problem
from lorakit.surgery.foreign import require_no_peft
from lorakit.text import table
from lorakit.variants import ParameterSite, Site


@dataclass(frozen=True)
class TargetGroup:
    """Layers that differ only in their position."""

    suffix: str
    """The end of the names: what `setting` would take."""
    name: str
    count: int
    type: str
    in_features: int
    out_features: int
    parameters: int
    """A and B of all of them, at the rank asked for."""
    setting: str = "target_modules"
    """The field of `LoraConfig` that names them."""


@dataclass(frozen=True)
class Targets:
    """The layers of a model that can be adapted, and those with a weight matrix that cannot."""

    r: int
    groups: tuple[TargetGroup, ...]
    refused: dict[str, str]
    """Modules with a weight matrix that cannot be adapted, and why."""

    def __str__(self) -> str:
        lines = self._table("target_modules")
        if any(group.setting == _PARAMETERS for group in self.groups):
            lines += [f"for {_PARAMETERS}:", *self._table(_PARAMETERS)]
        refused = [f"  - {name} {why}" for name, why in self.refused.items()]
        return "\n".join([*lines, *(["cannot be adapted:", *refused] if refused else [])])

    def _table(self, setting: str) -> list[str]:
        rows: list[tuple[object, ...]] = [
            ("suffix", "layers", "count", "type", "in", "out", f"parameters at r={self.r}")
        ]
        for g in self.groups:
            if g.setting == setting:
                size = f"{g.parameters:,}"
                sizes = g.in_features, g.out_features, size
                rows.append((g.suffix, g.name, g.count, g.type, *sizes))
        return table(rows)


_PARAMETERS = "target_parameters"
_KERNELS = (nn.ConvTranspose1d, ParametrizationList)
"""Modules beside the layers that can be adapted of which a weight of three dimensions is a kernel,
and no stack of matrices."""


def targets(model: nn.Module, r: int = 8) -> Targets:
    """The layers of `model` that could be adapted, by suffix: count, shape, parameters at rank `r`.

    A layer of I inputs and O outputs gets r * (I + O) parameters, and so does each of a mixture's
    experts; a convolution counts its kernel positions among the inputs, and in G groups it has
    r * (I + O) / G.

    Raises StateError for a model with PEFT's modules.

    >>> targets(nn.Sequential(nn.Linear(4, 6)), r=2).groups[0].parameters
    20
    """
    require_no_peft(model)
    members: dict[tuple[str, str, Site], list[str]] = {}
    refused: dict[str, str] = {}
    for name, module in _candidates(model):
        parent, _, child = name.rpartition(".")
        reason = refusals.refusal(module)
        reason = reason or reader_problem(model.get_submodule(parent), child)
        reason = reason or conversion.site_of(module).rank_problem(r)
        if reason is None:
            kind = conversion.class_name(module)
            key = (without_indices(name), kind, conversion.site_of(module))
            members.setdefault(key, []).append(name)
        else:
            refused.setdefault(without_indices(name), reason)
    groups = tuple(
        TargetGroup(
            suffix=_ending(names[0], site),
            name=group,
            count=len(names),
            type=kind,
            in_features=site.in_features,
            out_features=site.out_features,
            parameters=len(names) * sum(map(math.prod, site.factor_shapes(r))),
            setting=_PARAMETERS if isinstance(site, ParameterSite) else "target_modules",
        )
        for (group, kind, site), names in members.items()
    )
    return Targets(r, groups, refused)


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What has a weight matrix; the stacks of matrices of a module that is no layer one by one."""
    layers = (*conversion.ADAPTED, *_KERNELS)
    for name, module in model.named_modules():
        own = module._parameters
        stacks = [leaf for leaf, p in own.items() if p is not None and _is_stack(p)]
        if name and stacks and not isinstance(module, layers):
            for leaf in stacks:
                if leaf not in module._modules:  # else the layer there is one of the modules
                    yield f"{name}.{leaf}", ModuleParameter(module, leaf)
        elif name and any(map(_is_weight_matrix, own.values())):
            yield name, module


def _ending(name: str, site: Site) -> str:
    """The last part of a name, of a parameter with that of its module."""
    return last_parts(name, 2 if isinstance(site, ParameterSite) else 1)


def _is_stack(parameter: nn.Parameter) -> bool:
    if isinstance(parameter, UninitializedParameter):
        return False
    return parameter.ndim == 3 and parameter.shape[0] > 1


def _is_weight_matrix(parameter: nn.Parameter | None) -> bool:
    """Whether it has two or more dimensions, or is not initialized yet."""
    if parameter is None or isinstance(parameter, UninitializedParameter):
        return parameter is not None
    return parameter.ndim > 1
