"""One module of a set: its adapters, where their tensors are, and what runs in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from lorakit.adapters.entry import Entry, Packed
from lorakit.adapters.plans import ByGroups, ByRows, Counted, rows_part
from lorakit.adapters.routing import Plan, Routing
from lorakit.adapters.slab import Kind, Slab
from lorakit.functional.rows import Part
from lorakit.layers.stand_in import Own, stand_in
from lorakit.variants import ModuleAdapter

Bases = Sequence[type[nn.Module]]


class Place:
    """A module, its adapters by name, and the slabs that hold their tensors."""

    def __init__(self, module: nn.Module, name: str, routing: Routing, bases: Bases) -> None:
        self.module, self.name, self.routing = module, name, routing
        self.bases = tuple(bases)
        """Of the module's class without the mixin that asks for this place."""
        self.entries: dict[str, Entry] = {}
        self.slabs: dict[Kind, Slab] = {}

    def plan(self) -> Plan | None:
        """What runs here and now; None for the base."""
        return self.routing.choice().plan(self)

    def put(self, name: str, adapter: ModuleAdapter | None, own: Own) -> bool:
        """Store a copy of what an adapter has here; returns whether other adapters have moved."""
        packed, moved = None, False
        if adapter is not None:
            slab = self.slabs.setdefault(Kind.of(adapter), Slab())
            slot, moved = slab.put(adapter.tensors, adapter.spec.scaling)
            packed = Packed(slab, slot, adapter.spec, adapter.site)
        self.entries[name] = Entry(packed, own)
        return moved

    def drop(self, name: str) -> None:
        """Forget an adapter; its slot is free."""
        entry = self.entries.pop(name, None)
        if entry is not None and isinstance(entry.adapter, Packed):
            entry.adapter.slab.free(entry.adapter.slot)

    def single(self, name: str) -> Plan | None:
        """What runs where all rows have this adapter."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        adapter = entry.value()
        if isinstance(entry.adapter, Packed):
            assert adapter is not None
            # what is loaded does not train, so nothing is dropped from it in training mode either
            adapter = replace(adapter, spec=replace(adapter.spec, lora_dropout=0.0))
        return stand_in(self.module, self.bases, adapter, entry.own)

    def mixed(self, names: Sequence[str | None]) -> Plan | None:
        """What runs where row n has the adapter names[n]."""
        groups: dict[str | None, list[int]] = {}
        for row, name in enumerate(names):
            groups.setdefault(name if name in self.entries else None, []).append(row)
        plans = [(self.single(name) if name else None, rows) for name, rows in groups.items()]
        if len(plans) == 1:
            plan = plans[0][0]
            return None if plan is None else Counted(self.name, len(names), plan)
        parts = self._parts(groups)
        if parts is not None:
            return ByRows(self.name, len(names), self.module, parts)
        return ByGroups(self.name, len(names), self.module, plans)

    def _parts(self, groups: Mapping[str | None, Sequence[int]]) -> list[Part] | None:
        """The adapters by slab, for one product of all rows; None where they have no such form."""
        by_slab: dict[int, list[tuple[Packed, Sequence[int]]]] = {}
        for name, rows in groups.items():
            if name is not None:
                adapter, own = self.entries[name]
                if not isinstance(adapter, Packed) or own:
                    return None
                by_slab.setdefault(id(adapter.slab), []).append((adapter, rows))
        parts = [rows_part(self.module, members) for members in by_slab.values()]
        found = [part for part in parts if part is not None]
        return found if len(found) == len(parts) else None

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast what is stored, as the module's own tensors are."""
        with torch.no_grad():
            for slab in self.slabs.values():
                slab.apply(fn)
            for name, entry in self.entries.items():
                own = {leaf: fn(tensor) for leaf, tensor in entry.own.items()}
                self.entries[name] = entry._replace(own=own)
