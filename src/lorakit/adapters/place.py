"""One module of a set: where the tensors of its adapters are, and what runs in its place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.adapters.compiled import number_of
from lorakit.adapters.entry import Entry, Packed, Slot
from lorakit.adapters.plans import ByGroups, ByRows, Counted, rows_part
from lorakit.adapters.routing import Plan, Routing
from lorakit.adapters.slab import Kind, Slab
from lorakit.adapters.trained import Group as TrainingGroup
from lorakit.adapters.trained import Segments, is_segmented
from lorakit.functional.rows import Part
from lorakit.layers.stand_in import AdapterStandIn, Own, stand_in
from lorakit.private.torch_names import in_backward
from lorakit.surgery.disabling import here, is_disabled
from lorakit.variants import ModuleAdapter

Bases = Sequence[type[nn.Module]]
Group = tuple[Entry | None, list[int]]
"""An adapter, or none, and its rows."""


class Place:
    """A module, and the slabs that hold the tensors of its adapters."""

    def __init__(self, module: nn.Module, name: str, routing: Routing, bases: Bases) -> None:
        self.module, self.name, self.routing = module, name, routing
        self.bases = tuple(bases)
        """Of the module's class without the mixin that asks for this place."""
        self.slabs: dict[Hashable, Slab] = {}

        self.number = number_of(self)
        """By which compiled code finds this place."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "number"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, number=number_of(self))

    def plan(self) -> Plan | None:
        """What runs here and now; None for the base."""
        if here.disabled and is_disabled(self.module):
            return None
        if self.routing.has_rows and in_backward():
            self.routing.require_carried(self.name)
        return self.routing.choice().plan(self)

    def write(self, input: Tensor, output: Tensor) -> None:
        """Turn the base's output for this input into what runs here and now, in place."""
        plan = self.plan()
        if isinstance(plan, ByRows | AdapterStandIn):
            plan.write(input, output)
        elif plan is not None:
            output.copy_(plan(input))

    def put_training(self, adapter: ModuleAdapter | None, own: Own) -> Entry:
        """Let an adapter train here; its tensors are Parameters, which stay what they are."""
        return Entry(adapter, own or None)

    def put(self, adapter: ModuleAdapter | None, own: Own) -> Entry:
        """Store a copy of what an adapter has here."""
        packed = None
        if adapter is not None:
            slot = self._store(Kind.of(adapter), adapter.tensors, adapter.spec.scaling)
            packed = Packed(slot, adapter.spec, adapter.site)
        shapes = frozenset((name, tensor.shape) for name, tensor in own.items())
        return Entry(packed, self._store(shapes, own, 1.0) if own else None)

    def _store(self, kind: Hashable, tensors: Own, scale: float) -> Slot:
        slab = self.slabs.get(kind)
        if slab is None:
            slab = self.slabs[kind] = Slab()
        at, moved = slab.put(tensors, scale)
        if moved:
            self.routing.forget_plans()
        return Slot(slab, at)

    def single(self, entry: Entry) -> Plan:
        """What runs where all rows have this adapter."""
        return stand_in(self.module, self.bases, _as_run(entry), entry.own_tensors())

    def mixed(self, entries: Sequence[Entry | None]) -> Plan | None:
        """What runs where row n has the adapter entries[n]."""
        groups: dict[int, Group] = {}
        for row, entry in enumerate(entries):
            groups.setdefault(id(entry), (entry, []))[1].append(row)
        if len(groups) == 1:
            entry = entries[0]
            return entry and Counted(self.name, len(entries), self.single(entry))
        if any(entry is not None and entry.trains for entry, _ in groups.values()):
            return self._training(len(entries), list(groups.values()))
        parts = self._parts(groups.values())
        if parts is not None:
            return ByRows(self.name, len(entries), self.module, parts)
        return self._by_groups(len(entries), groups.values())

    def _by_groups(self, rows: int, groups: Iterable[Group]) -> Plan:
        plans = [(entry and self.single(entry), own) for entry, own in groups]
        return ByGroups(self.name, rows, self.module, plans)

    def _training(self, rows: int, groups: Sequence[Group]) -> Plan:
        """What runs where some of the adapters train."""
        adapters = [(entry and _as_run(entry), own) for entry, own in groups]
        heads = any(entry is not None and entry.own is not None for entry, _ in groups)
        if heads or not is_segmented(self.module, [adapter for adapter, _ in adapters]):
            return self._by_groups(rows, groups)
        found = [TrainingGroup(adapter, own) for adapter, own in adapters]
        return Segments(self.name, rows, self.module, found)

    def _parts(self, groups: Iterable[Group]) -> list[Part] | None:
        """The adapters by slab, for one product of all rows; None where they have no such form."""
        by_slab: dict[int, list[tuple[Packed, Sequence[int]]]] = {}
        for entry, rows in groups:
            if entry is not None:
                if not isinstance(entry.adapter, Packed) or entry.own is not None:
                    return None
                members = by_slab.setdefault(id(entry.adapter.slot.slab), [])
                members.append((entry.adapter, rows))
        parts = [rows_part(self.module, members) for members in by_slab.values()]
        found = [part for part in parts if part is not None]
        return found if len(found) == len(parts) else None

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast what is stored, as the module's own tensors are."""
        with torch.no_grad():
            for slab in self.slabs.values():
                slab.apply(fn)


def _as_run(entry: Entry) -> ModuleAdapter | None:
    """The adapter as a value, with the dropout that it has in training mode."""
    adapter = entry.value()
    if adapter is None or not isinstance(entry.adapter, Packed):
        return adapter
    # what is loaded does not train, so nothing is dropped from it in training mode either
    return replace(adapter, spec=replace(adapter.spec, lora_dropout=0.0))
