"""Which shapes A and B have beside a module's weight, and what the module tells of a pair."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from lorakit.checkpoint import LowRank
from lorakit.functional import slices
from lorakit.functional.slices import Slices
from lorakit.injection.selection.architectures import default_targets
from lorakit.injection.selection.naming import matches_suffix
from lorakit.layers import conversion
from lorakit.layers.base import LoraLayer
from lorakit.layers.linear import Linear


def resolved(model: nn.Module, name: str, module: nn.Module, pair: LowRank) -> LowRank:
    """Rank and slices filled in from the module, where the file does not tell."""
    if pair.r is not None:
        return pair
    a, b = pair.lora_A, pair.lora_B
    if isinstance(module, nn.modules.conv._ConvNd):
        return replace(pair, r=a.shape[0] // module.kernel_size[0], groups=module.groups)
    if a.shape[0] == b.shape[1]:
        return replace(pair, r=a.shape[0])
    parts = _known_slices(model, name, module)
    matches = parts is not None and a.shape[0] == b.shape[1] * len(slices.adapted_heights(parts))
    return replace(pair, r=b.shape[1], slices=parts) if matches else pair


def _known_slices(model: nn.Module, name: str, module: nn.Module) -> Slices | None:
    """Which slices of a fused weight are adapted: as on the model, or as in the paper."""
    if isinstance(module, LoraLayer):
        return module.spec.slices
    default = default_targets(model)
    for suffix, parts in (default.slices if default else {}).items():
        if matches_suffix(name, suffix):
            return slices.resolve(parts, conversion.features(module)[1])
    return None


def expected_shapes(module: nn.Module, pair: LowRank) -> list[tuple[tuple[int, ...], ...]]:
    """The shapes that A and B may have beside this module's weight."""
    assert pair.r is not None
    r, (in_features, out_features) = pair.r, conversion.features(module)
    if isinstance(module, Linear) and module.fan_in_fan_out:
        in_features, out_features = out_features, in_features
    if isinstance(module, nn.modules.conv._ConvNd):
        k, ones = module.kernel_size[0], (1,) * len(module.kernel_size)
        kernel_form = (r, *module.weight.shape[1:]), (out_features, r // module.groups, *ones)
        height = out_features // module.groups * k
        return [kernel_form, ((r * k, module.in_channels * k), (height, r * k))]
    if pair.slices is not None:
        heights = slices.adapted_heights(pair.slices)
        if sum(height for height, _ in pair.slices) == out_features:
            return [((r * len(heights), in_features), (sum(heights), r))]
    if pair.lora_magnitude_vector is not None:
        return [((r, in_features), (out_features, r), (out_features,))]
    return [((r, in_features), (out_features, r))]


def in_words(shapes: tuple[tuple[int, ...], ...]) -> str:
    """Shapes of A, B and what a variant has beside them."""
    names = ("A", "B", "magnitude")
    named = [f"{name} {shape}" for name, shape in zip(names, shapes, strict=False)]
    return f"{', '.join(named[:-1])} and {named[-1]}"
