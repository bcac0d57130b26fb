"""One module of a set, and what runs in its place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.adapters.choices import Choice, Plan
from lorakit.adapters.compiled import number_of
from lorakit.adapters.entry import Entry
from lorakit.adapters.plans import ByGroups, ByRows, Counted, Members, in_rows, kind_of, rows_part
from lorakit.adapters.routing import Routing
from lorakit.adapters.trained import Group as TrainingGroup
from lorakit.adapters.trained import Segments, is_segmented
from lorakit.functional.initialise import adapter_dtype
from lorakit.functional.rows import Part
from lorakit.layers.conversion import base_weight
from lorakit.layers.stand_in import AdapterStandIn, stand_in
from lorakit.private.torch_names import in_backward
from lorakit.surgery.disabling import here, is_disabled
from lorakit.variants import LinearSite, ModuleAdapter

Bases = Sequence[type[nn.Module]]
Group = tuple[Entry | None, list[int]]
"""An adapter, or none, and its rows."""


def _grouped(entries: Sequence[Entry | None]) -> list[Group]:
    groups: dict[int, Group] = {}
    for row, entry in enumerate(entries):
        groups.setdefault(id(entry), (entry, []))[1].append(row)
    return [*groups.values()]


class Place:
    """A module, and how it computes with the adapters that a choice has for it."""

    def __init__(
        self,
        module: nn.Module,
        name: str,
        routing: Routing,
        bases: Bases,
        mixed_up: str | None = None,
    ) -> None:
        self.module, self.name, self.routing = module, name, routing
        self.mixed_up = mixed_up
        """Why its input does not begin with the rows of a batch, where that is known."""
        self.bases = tuple(bases)
        """Of the module's class without the mixin that asks for this place."""
        self.number = number_of(self)
        """By which compiled code finds this place."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "number"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, number=number_of(self))

    def plan(self) -> Plan | None:
        """What runs here and now; None for the base."""
        choice = self._choice()
        return None if choice is None else choice.plan(self)

    def plan_in_graph(self) -> Plan | None:
        """The same for compiled code with gradients."""
        choice = self._choice()
        return None if choice is None else choice.plan_in_graph(self)

    def learning(self) -> list[Tensor]:
        """The Parameters of the adapters that are chosen here and now."""
        choice = self._choice()
        return [] if choice is None else choice.learning(self)

    def _choice(self) -> Choice | None:
        """What is chosen here and now; None where the module is disabled."""
        if here.disabled and is_disabled(self.module):
            return None
        routing = self.routing
        choice = routing.choice()
        if routing.varies(choice, self.module.training) and in_backward():
            routing.require_carried(self.name)
        return choice

    def write(self, input: Tensor, output: Tensor) -> None:
        """Turn the base's output for this input into what runs here and now, in place."""
        plan = self.plan()
        if isinstance(plan, ByRows | AdapterStandIn):
            plan.write(input, output)
        elif plan is not None:
            output.copy_(plan(input))

    def wide(self, adapter: ModuleAdapter) -> ModuleAdapter:
        """The adapter as `lorakit.load_adapter` keeps it here: in at least 32 bits."""
        dtype = adapter_dtype(base_weight(self.module).dtype)
        tensors = {name: tensor.to(dtype) for name, tensor in adapter.tensors.items()}
        return replace(adapter, tensors=tensors)

    def _as_run(self, entry: Entry, wide: bool = False) -> ModuleAdapter | None:
        """The adapter as a plan computes with it; with narrow tensors only linear layers can."""
        adapter = entry.adapter
        if adapter is None or entry.trains:
            return adapter
        if wide or not isinstance(adapter.site, LinearSite):
            adapter = self.wide(adapter)
        # what is loaded does not train, so nothing is dropped from it in training mode either
        return replace(adapter, spec=replace(adapter.spec, lora_dropout=0.0))

    def single(self, entry: Entry, may_merge: bool = True) -> Plan:
        """What runs where all rows have this adapter."""
        adapter = self._as_run(entry)
        return stand_in(self.module, self.bases, adapter, entry.own, may_merge)

    def _of_rows(self, entry: Entry | None) -> Plan | None:
        # a merged weight for each batch would take memory that nothing limits
        return None if entry is None else self.single(entry, may_merge=False)

    def mixed(self, entries: Sequence[Entry | None]) -> Plan | None:
        """What runs where row n has the adapter entries[n]."""
        rows, groups = len(entries), _grouped(entries)
        if len(groups) == 1:
            plan = self._of_rows(entries[0])
            return plan and Counted(self.name, rows, plan)
        if any(entry is not None and entry.trains for entry, _ in groups):
            return self._segments(rows, groups) or self._by_groups(rows, groups)
        if (kinds := self._kinds(groups)) is not None:
            return ByRows(self.name, rows, self.module, partial(self._parts, kinds))
        return self._by_groups(rows, groups)

    def in_graph(self, entries: Sequence[Entry | None]) -> Plan | None:
        """What differs from the base by operations that each have a gradient, where it has them."""
        return self._segments(len(entries), _grouped(entries))

    def _by_groups(self, rows: int, groups: Iterable[Group]) -> Plan:
        plans = [(self._of_rows(entry), own) for entry, own in groups]
        return ByGroups(self.name, rows, self.module, plans)

    def _segments(self, rows: int, groups: Sequence[Group]) -> Segments | None:
        """What runs where some of the adapters train, in one operation; None if it has no such
        form."""
        if not groups or any(entry is not None and entry.own for entry, _ in groups):
            return None
        adapters = [(entry and self._as_run(entry, wide=True), own) for entry, own in groups]
        if not is_segmented(self.module, [adapter for adapter, _ in adapters]):
            return None
        found = [TrainingGroup(adapter, own) for adapter, own in adapters]
        return Segments(self.name, rows, self.module, found)

    def _kinds(self, groups: Iterable[Group]) -> list[Members] | None:
        """The adapters by kind, for one product of all rows; None where they have no such form."""
        by_kind: dict[Hashable, list[tuple[ModuleAdapter, Sequence[int]]]] = {}
        for entry, rows in groups:
            if entry is not None:
                if entry.adapter is None or entry.trains or entry.own:
                    return None
                by_kind.setdefault(kind_of(entry.adapter), []).append((entry.adapter, rows))
        kinds: list[Members] = [*by_kind.values()]
        return kinds if all(in_rows(self.module, members[0][0]) for members in kinds) else None

    def _parts(self, kinds: Iterable[Members]) -> list[Part]:
        return [rows_part(self.module, members) for members in kinds]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast what adapters have here, as the module's own tensors are."""
        with torch.no_grad():
            for slab in self.routing.slabs:
                slab.apply(self.name, fn)
