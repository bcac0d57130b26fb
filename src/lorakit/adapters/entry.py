"""What one adapter has at one module."""

from __future__ import annotations

from typing import NamedTuple

from lorakit.adapters.slab import Slab
from lorakit.layers.stand_in import Own
from lorakit.variants import AdapterSpec, ModuleAdapter, Site


class Packed(NamedTuple):
    """An adapter for inference: where its tensors are, and what they mean."""

    slab: Slab
    slot: int
    spec: AdapterSpec
    site: Site | None

    def value(self) -> ModuleAdapter:
        """The adapter as a value, in the memory of the slab."""
        return ModuleAdapter(self.spec, self.slab.views(self.slot), self.site)


class Entry(NamedTuple):
    """An adapter of a module's weight, and what replaces the module's own parameters."""

    adapter: Packed | ModuleAdapter | None
    """Of inference, in a slab; to be trained, as a value of Parameters; or none."""
    own: Own

    def value(self) -> ModuleAdapter | None:
        """The adapter as a value."""
        return self.adapter.value() if isinstance(self.adapter, Packed) else self.adapter
