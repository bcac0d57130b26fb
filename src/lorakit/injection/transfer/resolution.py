"""Resolve what a file does not store about an adapter, with the module that it is for.

A loralib file stores neither the types of its layers, nor the rank of a convolution, nor which
slices of a fused weight are adapted. They follow from the module and the shapes of A and B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from lorakit.functional import slices
from lorakit.functional.slices import Slices
from lorakit.injection.selection.architectures import default_targets
from lorakit.injection.selection.naming import matches_suffix
from lorakit.injection.selection.token_rows import rows_site
from lorakit.layers import conversion
from lorakit.layers.base import AdapterLayer
from lorakit.variants import ConvSite, LinearSite, ModuleAdapter, RowsSite, Site, SlicedSite
from lorakit.variants.site import Shape
from lorakit.variants.trainable_tokens import VALUES


def resolve_adapter(
    model: nn.Module, name: str, module: nn.Module, adapter: ModuleAdapter
) -> ModuleAdapter | None:
    """The adapter with this module's site; None if it adapts slices that nothing identifies.

    Its shapes may still differ from those that the site expects.
    """
    if isinstance(adapter.site, RowsSite):
        return replace(adapter, site=rows_site(module, adapter.site.rows))
    here = conversion.site_of(module)
    if adapter.site is None:
        return _resolve_by_shapes(model, name, module, adapter, here)
    parts = adapter.site.slices
    if parts is not None and isinstance(here, LinearSite):
        here = _sliced(here, parts) or here
    return replace(adapter, site=_in_its_form(here, adapter))


def _resolve_by_shapes(
    model: nn.Module, name: str, module: nn.Module, adapter: ModuleAdapter, here: Site
) -> ModuleAdapter | None:
    a, b = adapter.tensors["lora_A"], adapter.tensors["lora_B"]
    if isinstance(here, ConvSite):
        spec = replace(adapter.spec, r=a.shape[0] // here.shape[-1])
        return replace(adapter, spec=spec, site=_in_its_form(here, adapter))
    if a.shape[0] == b.shape[1]:
        return replace(adapter, site=here)
    parts = _known_slices(model, name, module, here)
    if parts is None or a.shape[0] != b.shape[1] * len(slices.adapted_heights(parts)):
        return None
    assert isinstance(here, LinearSite)
    return replace(adapter, site=_sliced(here, parts))


def _in_its_form(here: Site, adapter: ModuleAdapter) -> Site:
    """The site of a convolution in the form of A and B: kernels, or loralib's matrices."""
    if not isinstance(here, ConvSite):
        return here
    a = adapter.tensors.get("lora_A")
    return replace(here, square=a is not None and a.ndim == 2)


def _sliced(here: LinearSite, parts: Slices) -> SlicedSite | None:
    if sum(height for height, _ in parts) != here.out_features:
        return None
    return SlicedSite(here.in_features, here.out_features, here.transposed, parts)


def _known_slices(model: nn.Module, name: str, module: nn.Module, here: Site) -> Slices | None:
    """Which slices of a fused weight are adapted: as in the model, or as in the paper."""
    if isinstance(module, AdapterLayer):
        return here.slices
    default = default_targets(model)
    for suffix, parts in (default.slices if default else {}).items():
        if matches_suffix(name, suffix):
            return slices.resolve(parts, here.out_features)
    return None


def format_shapes(shapes: Mapping[str, Shape]) -> str:
    """Shapes of A, B and a variant's other tensors as text."""
    named = [f"{_SHORT.get(name, name)} {shape}" for name, shape in shapes.items()]
    return f"{', '.join(named[:-1])} and {named[-1]}" if len(named) > 1 else "".join(named)


_SHORT = {"lora_A": "A", "lora_B": "B", "lora_magnitude_vector": "magnitude", VALUES: "rows"}
