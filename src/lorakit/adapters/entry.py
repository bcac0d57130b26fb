"""What one adapter has at one module, and one adapter: what it has at all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from lorakit.adapters.loaded import Loaded
from lorakit.adapters.slab import Slab
from lorakit.layers.stand_in import Own
from lorakit.variants import VARIANTS, AdapterSpec, ModuleAdapter, Site, Variant


class Slot(NamedTuple):
    """Where tensors are: one of the places of a slab."""

    slab: Slab
    at: int

    def tensors(self) -> Mapping[str, Tensor]:
        """By name, in the memory of the slab."""
        return self.slab.views(self.at)


class Packed(NamedTuple):
    """The adapter of a weight, for inference."""

    slot: Slot
    spec: AdapterSpec
    site: Site | None

    def value(self) -> ModuleAdapter:
        """The adapter as a value, in the memory of the slab."""
        return ModuleAdapter(self.spec, self.slot.tensors(), self.site)


class Entry(NamedTuple):
    """An adapter of a module's weight, and what replaces the module's own parameters."""

    adapter: Packed | ModuleAdapter | None
    """For inference, in a slab; to be trained, as a value of Parameters; or none."""
    own: Slot | Own | None = None
    """In a slab, or Parameters that train."""

    @property
    def trains(self) -> bool:
        """Whether it is to be trained."""
        return isinstance(self.adapter, ModuleAdapter) or isinstance(self.own, Mapping)

    @property
    def variant(self) -> Variant | None:
        """That of the adapter, if there is one."""
        return None if self.adapter is None else VARIANTS[self.adapter.spec.variant]

    def own_tensors(self) -> Own:
        """What replaces the module's own parameters, by name."""
        return self.own.tensors() if isinstance(self.own, Slot) else self.own or {}

    def value(self) -> ModuleAdapter | None:
        """The adapter as a value."""
        return self.adapter.value() if isinstance(self.adapter, Packed) else self.adapter

    def free(self) -> None:
        """Let another adapter have the slots."""
        packed = self.adapter if isinstance(self.adapter, Packed) else None
        for slot in (packed and packed.slot, self.own):
            if isinstance(slot, Slot):
                slot.slab.free(slot.at)


@dataclass(eq=False)
class Member:
    """One adapter of a set."""

    loaded: Loaded
    entries: dict[object, Entry] = field(default_factory=dict)
    """What it has, by place."""
    users: int = 0
    """How many `rows` blocks use it now."""

    @property
    def name(self) -> str:
        """By which the set knows it."""
        return self.loaded.name

    def free(self) -> None:
        """Let others have its slots."""
        for entry in self.entries.values():
            entry.free()
        self.entries.clear()
