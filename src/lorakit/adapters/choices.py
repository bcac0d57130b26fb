"""What a forward computes with: for each module a plan, found when the module first asks.

A *choice* is the base, an adapter or a weighted sum of several for all rows, or one for each row.
It says for each module what runs there, its plan, and remembers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from lorakit.adapters.entry import Entry
from lorakit.adapters.slab import Slab
from lorakit.variants import ModuleAdapter
from lorakit.variants.combination import weighted_sum


class Plan(Protocol):
    """What runs in the place of a module's forward."""

    def __call__(self, input: Tensor) -> Tensor: ...


class Place(Protocol):
    """One module of a set."""

    name: str

    def wide(self, adapter: ModuleAdapter) -> ModuleAdapter:
        """The adapter in a type in which it can be scaled without rounding anew."""

    def single(self, entry: Entry) -> Plan:
        """The plan where all rows have this adapter."""

    def mixed(self, entries: Sequence[Entry | None]) -> Plan | None:
        """The plan where row n has the adapter entries[n]."""

    def in_graph(self, entries: Sequence[Entry | None]) -> Plan | None:
        """The one that compiled code with gradients has for these, if it is another."""


class Choice:
    """What each place runs, found when it is first asked."""

    count: int | None = None
    """How many rows were named; None where that does not matter."""

    def __init__(
        self,
        slabs: Sequence[Slab | None] = (),
        weights: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.weights = dict(weights)
        """The adapters that a default has chosen, and how much of each."""
        self.key = tuple(slab and slab.number for slab in slabs), tuple(weights.values())
        """What another choice has too that computes the same."""
        self._slabs = tuple(slabs)
        """What it computes with; it stays in memory as long as the choice does."""
        self._plans: dict[Place, Plan | None] = {}
        self._in_graph: dict[Place, Plan | None] = {}

    def let_use(self) -> None:
        """Let the current CUDA streams compute with it."""
        for slab in self._slabs:
            if slab is not None:
                slab.let_use()

    def plan(self, place: Place) -> Plan | None:
        """What runs at this place; None for the base."""
        try:
            return self._plans[place]
        except KeyError:
            plan = self._plans[place] = self.make_plan(place)
            return plan

    def plan_in_graph(self, place: Place) -> Plan | None:
        """The same for compiled code with gradients."""
        if place not in self._in_graph:
            found = place.in_graph(self.entries(place))
            self._in_graph[place] = self.plan(place) if found is None else found
        return self._in_graph[place]

    def make_plan(self, place: Place) -> Plan | None:
        """The plan of a place that was not asked before."""
        entry = next(iter(self.entries(place)), None)
        return None if entry is None else place.single(entry)

    def entries(self, place: Place) -> Sequence[Entry | None]:
        """What each row has at this place, or what all have; nothing for the base."""
        return ()

    def learning(self, place: Place) -> list[Tensor]:
        """The Parameters of its adapters at this place."""
        found = (slab.entries.get(place.name) for slab in {*self._slabs} if slab is not None)
        return [t for entry in found if entry is not None and entry.trains for t in entry.tensors]

    def forget(self, place: Place) -> None:
        """Find this plan anew: the module has changed."""
        self._plans.pop(place, None)
        self._in_graph.pop(place, None)

    def __getstate__(self) -> dict[str, object]:
        """For copy and pickle: plans are found again."""
        return {**self.__dict__, "_plans": {}, "_in_graph": {}}


class Rows(Choice):
    """Row n of a batch has the adapter slabs[n], or none."""

    def __init__(self, slabs: Sequence[Slab | None]) -> None:
        super().__init__(slabs)
        self.count = len(slabs)

    def make_plan(self, place: Place) -> Plan | None:
        return place.mixed(self.entries(place))

    def entries(self, place: Place) -> Sequence[Entry | None]:
        return [None if slab is None else slab.entries.get(place.name) for slab in self._slabs]


class One(Choice):
    """One adapter for all rows."""

    def __init__(self, name: str, slab: Slab) -> None:
        super().__init__([slab], {name: 1.0})
        self._slab = slab

    def entries(self, place: Place) -> Sequence[Entry | None]:
        return (self._slab.entries.get(place.name),)


class Sum(Choice):
    """A weighted sum of the updates of several adapters, for all rows."""

    def __init__(self, weights: Mapping[str, float], slabs: Sequence[Slab]) -> None:
        super().__init__(slabs, weights)
        self._terms = tuple(zip(slabs, weights.values(), strict=True))

    def entries(self, place: Place) -> Sequence[Entry | None]:
        found = [(s.entries[place.name], w) for s, w in self._terms if place.name in s.entries]
        values = [(place.wide(e.adapter), w) for e, w in found if e.adapter is not None]
        return (Entry(weighted_sum(values)),) if values else ()


class Base(Choice):
    """No adapter. All sets have this one choice, so it remembers no place."""

    def plan(self, place: Place) -> Plan | None:
        return None

    def plan_in_graph(self, place: Place) -> Plan | None:
        return None


BASE = Base()


def is_one(weights: Mapping[str, float]) -> bool:
    """Whether these choose one adapter as it is."""
    return list(weights.values()) == [1.0]


def default_of(weights: Mapping[str, float], slabs: Sequence[Slab]) -> Choice:
    """The choice of these adapters, for all rows."""
    if not slabs:
        return BASE
    return One(next(iter(weights)), slabs[0]) if is_one(weights) else Sum(weights, slabs)
