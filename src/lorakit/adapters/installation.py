"""Modules that ask a set for their adapter: made so, and given back."""

from __future__ import annotations

from torch import nn

from lorakit.adapters.layouts import mixed_up
from lorakit.adapters.place import Place
from lorakit.adapters.routed import ATTRIBUTE, Routed, RoutedLayer, RoutedWeight
from lorakit.adapters.routing import Routing
from lorakit.layers.attention import MultiheadAttention
from lorakit.layers.base import AdapterLayer
from lorakit.layers.composition import merged_on_read
from lorakit.layers.conversion import adapt, lora_class_of, restoration
from lorakit.layers.readers import reader_of
from lorakit.layers.refusals import refusal
from lorakit.surgery.alteration import alteration, altered, forget
from lorakit.surgery.composition import bases_of, composed
from lorakit.variants import AdapterSpec, Site


def place_of(module: nn.Module) -> Place | None:
    """The place of a module that a set has routed."""
    found: Place | None = module.__dict__.get(ATTRIBUTE)
    return found


def route(model: nn.Module, name: str, routing: Routing, site: Site | None = None) -> Place:
    """Let the module of this name ask `routing`; `site` is that of its first adapter.

    It becomes a layer of rank 0, where there is one for its class, and keeps everything it has.
    """
    module = model.get_submodule(name)
    found = place_of(module)
    if found is not None:
        return found
    in_rows = site is not None and site.rows is not None
    if lora_class_of(module) is not None and refusal(module) is None:
        _as_layer(model, name, module, None)
    elif in_rows and refusal(module, in_rows) is None:
        _as_layer(model, name, module, site)
    module.__dict__.pop("forward", None)  # the class's own, as `adapt` does; others are refused
    bases = bases_of(type(module))
    place = Place(module, name, routing, bases, mixed_up(model, name))
    record = altered(module)
    record.shared = routing
    module.__dict__[ATTRIBUTE] = place
    module.__class__ = composed((_mixin(module), *bases))
    return place


def _as_layer(model: nn.Module, name: str, module: nn.Module, site: Site | None) -> None:
    adapt(module, AdapterSpec(0, merge_weights=False), site)
    if reader_of(model, name) is not None:
        layer: type[AdapterLayer] = type(module)  # type: ignore[assignment]
        module.__class__ = merged_on_read(layer)


def _mixin(module: nn.Module) -> type[nn.Module]:
    if isinstance(module, MultiheadAttention):
        return RoutedWeight  # its own forward reads the weight
    return RoutedLayer if isinstance(module, AdapterLayer) else Routed


def unroute(place: Place) -> None:
    """Give the module back as it was."""
    module = place.module
    record = alteration(module)
    if record is None or record.shared is not place.routing:
        return
    module.__class__ = composed(place.bases) if len(place.bases) > 1 else place.bases[0]
    module.__dict__.pop(ATTRIBUTE, None)
    if isinstance(module, AdapterLayer):
        restoration(module)()
    record.shared = None
    forget(module)
