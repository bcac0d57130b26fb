"""The weights whose change an adapter can hold: layers', and experts' that the model has stacked.

A checkpoint has each expert of a mixture by itself, and the model all of them in one parameter:

    experts.0.w1 (O, I), experts.0.w3 (O, I), experts.1.w1, ...    experts.gate_up_proj (E, 2 O, I)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.algebra.differences import CheckpointPair
from lorakit.checkpoint.fingerprint import Sample, sample
from lorakit.injection.selection.parameters import as_layers
from lorakit.injection.transfer.stacked_experts import Parts, stacked_keys
from lorakit.layers.conversion import site_of
from lorakit.layers.refusals import refusal
from lorakit.surgery.ties import tied_names
from lorakit.variants import Site


@dataclass(frozen=True)
class Adaptable:
    """A weight of the model, and the tensors of the checkpoints that it is made of."""

    site: Site
    parts: Parts
    """For each of those above one another the names of all experts' tensors; else one of one."""

    @property
    def names(self) -> list[str]:
        """The tensors, by their names in the pair."""
        return [name for part in self.parts for name in part]

    def difference(self, pair: CheckpointPair) -> Tensor | None:
        """tuned - base in float32; None where no tensor has changed. Raises as the pair's does."""
        if len(self.names) == 1:
            return pair.difference(self.names[0])
        stack, is_changed = torch.zeros(self.site.weight_shape), False
        for place, name in self._places(pair):
            if (difference := pair.difference(name)) is not None:
                stack[place], is_changed = difference, True
        return stack if is_changed else None

    def sample_of_base(self, pair: CheckpointPair) -> Sample:
        """What a fingerprint takes of the weight before tuning."""
        if len(self.names) == 1:
            return pair.sample_of_base(self.names[0])
        dtype = pair.of_base(self.names[0]).dtype
        stack = torch.empty(self.site.weight_shape, dtype=dtype)
        for place, name in self._places(pair):
            stack[place] = pair.of_base(name)
        return sample(stack)

    def _places(self, pair: CheckpointPair) -> Iterator[tuple[tuple[int, slice], str]]:
        """(expert, rows) of each tensor in the stack."""
        start = 0
        for part in self.parts:
            stop = start + pair.shape(part[0])[0]
            yield from (((expert, slice(start, stop)), name) for expert, name in enumerate(part))
            start = stop


def adaptable(
    model: nn.Module, pair: CheckpointPair, mixed: Mapping[str, Sequence[str]]
) -> dict[str, Adaptable]:
    """Those that both checkpoints have alike, by the names of modules and of parameters.

    `mixed` has the tensors that each other tensor of the model is made of.
    """
    return {**_layers(model, pair), **_experts(model, pair, mixed)}


def _layers(model: nn.Module, pair: CheckpointPair) -> dict[str, Adaptable]:
    found = {}
    shared = {name for group in tied_names(model) for name in group}
    for name, module in model.named_modules():
        weight = f"{name}.weight"
        known = weight in pair.keys and weight not in shared and pair.are_alike(weight)
        if known and refusal(module) is None:
            site = site_of(module)
            if site.kind in ("linear", "conv"):
                found[name] = Adaptable(site, [[weight]])
    return found


def _experts(
    model: nn.Module, pair: CheckpointPair, mixed: Mapping[str, Iterable[str]]
) -> dict[str, Adaptable]:
    groups = stacked_keys(model, [key for own in mixed.values() for key in own])
    found = {}
    for name, layer in as_layers(model, groups).items():
        if refusal(layer) is None and _make(pair, groups[name], site_of(layer)):
            found[name] = Adaptable(site_of(layer), groups[name])
    return found


def _make(pair: CheckpointPair, parts: Parts, site: Site) -> bool:
    """Whether the tensors of both checkpoints, stacked, have the shape of the parameter."""
    if not all(part and all(map(pair.are_alike, part)) for part in parts):
        return False
    shapes = [{pair.shape(name) for name in part} for part in parts]
    if any(len(found) > 1 or len(min(found)) != 2 for found in shapes):
        return False
    heights, widths = zip(*map(min, shapes), strict=True)
    stacked = (len(parts[0]), sum(heights), widths[0])
    return len({*map(len, parts)}) == len({*widths}) == 1 and stacked == site.weight_shape
