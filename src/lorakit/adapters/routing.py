"""Which adapter a forward uses: the default of a set, or the rows of the context that runs it.

Every module of a set asks one object, so a switch is one assignment. The default is for all
threads. What `rows` sets is in a context variable: of the thread, or of the asyncio task, that
entered it. A task begins with the context of what created it; a thread begins with none, unless it
is run in a copy (`contextvars.copy_context().run`).

A *choice* says for each module what runs there, its plan, and remembers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from lorakit.adapters import batch
from lorakit.adapters.entry import Entry
from lorakit.adapters.slab import Slab
from lorakit.errors import StateError
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


class Choice:
    """What each place runs, found when it is first asked; by itself the base everywhere."""

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

    def make_plan(self, place: Place) -> Plan | None:
        """The plan of a place that was not asked before."""
        return None

    def forget(self, place: Place) -> None:
        """Find this plan anew: the module has changed."""
        self._plans.pop(place, None)

    def __getstate__(self) -> dict[str, object]:
        """For copy and pickle: plans are found again."""
        return {**self.__dict__, "_plans": {}}


class Rows(Choice):
    """Row n of a batch has the adapter slabs[n], or none."""

    def __init__(self, slabs: Sequence[Slab | None]) -> None:
        super().__init__(slabs)
        self.count = len(slabs)

    def make_plan(self, place: Place) -> Plan | None:
        name = place.name
        return place.mixed([None if s is None else s.entries.get(name) for s in self._slabs])


class One(Choice):
    """One adapter for all rows."""

    def __init__(self, name: str, slab: Slab) -> None:
        super().__init__([slab], {name: 1.0})
        self._slab = slab

    def make_plan(self, place: Place) -> Plan | None:
        entry = self._slab.entries.get(place.name)
        return None if entry is None else place.single(entry)


class Sum(Choice):
    """A weighted sum of the updates of several adapters, for all rows."""

    def __init__(self, weights: Mapping[str, float], slabs: Sequence[Slab]) -> None:
        super().__init__(slabs, weights)
        self._terms = tuple(zip(slabs, weights.values(), strict=True))

    def make_plan(self, place: Place) -> Plan | None:
        found = [(s.entries[place.name], w) for s, w in self._terms if place.name in s.entries]
        values = [(place.wide(e.adapter), w) for e, w in found if e.adapter is not None]
        return place.single(Entry(weighted_sum(values))) if values else None


BASE = Choice()
_NONE: Mapping[int, Choice] = MappingProxyType({})
_IN_CONTEXT: ContextVar[Mapping[int, Choice]] = ContextVar("AdapterSet.rows", default=_NONE)
"""The choices of the sets, by the number of their routing; replaced and never changed."""
_FORWARDS: ContextVar[tuple[tuple[int, Mapping[int, Choice]], ...]] = ContextVar(
    "AdapterSet.forwards", default=()
)
"""The forwards that run here, each inside of the one before: the number of their routing, and what
was chosen before."""


RECENT = 4
"""Compositions of a batch whose plans are kept, so that a loop over batches finds them again."""


_CARRIED: ContextVar[frozenset[int]] = ContextVar("AdapterSet.context_fn", default=frozenset())
"""The routings whose choice gradient checkpointing has carried here."""


class Routing:
    """The default choice of a set, and those of contexts."""

    def __init__(self, in_pieces: bool = False) -> None:
        self._in_pieces = in_pieces
        """Whether the model cuts rows into pieces, see `layouts`."""
        self.default: Choice = BASE
        self.has_rows = False
        """Whether `rows` was ever used, so that a backward pass may not find what forward had."""
        self.slabs: set[Slab] = set()
        """What is beside the base, and goes where its modules go."""
        self._recent: dict[tuple[Slab | None, ...], Rows] = {}
        self._computed: dict[bool, set[object]] = {True: set(), False: set()}
        """Keys of what forwards have had, in training and in evaluation; two of each are enough."""

    def rows(self, slabs: Sequence[Slab | None]) -> Rows:
        """The choice of these adapters for the rows of a batch."""
        self.has_rows = True
        key = tuple(slabs)
        found = self._recent.pop(key, None) or Rows(key)
        self._recent[key] = found
        for old in list(self._recent)[:-RECENT]:
            self._recent.pop(old, None)
        return found

    def drop(self, slab: Slab) -> None:
        """Forget it, and the batches that had it."""
        self.slabs.discard(slab)
        for key in [key for key in self._recent if slab in key]:
            self._recent.pop(key, None)

    def forget(self, place: Place) -> None:
        """Find the plans of this place anew: its module has changed."""
        self._recent.clear()
        self.default.forget(place)
        self.choice().forget(place)

    def choice(self) -> Choice:
        """What is chosen here and now."""
        chosen = _IN_CONTEXT.get()
        return chosen.get(id(self), self.default) if chosen else self.default

    def begin(self, _: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Before a forward of the model: the default of now is its to the end.

        Raises StateError for another number of rows than was named.
        """
        if torch.compiler.is_compiling():
            return
        chosen, me = _IN_CONTEXT.get(), id(self)
        _FORWARDS.set((*_FORWARDS.get(), (me, chosen)))
        if me not in chosen:
            default = self.default
            default.let_use()
            _IN_CONTEXT.set({**chosen, me: default})
        elif (count := chosen[me].count) is not None:
            batch.begin(count, args, kwargs, self._in_pieces)

    def end(self, *_: object) -> None:
        """After it: what was chosen before is again."""
        if torch.compiler.is_compiling():
            return
        forwards, me = _FORWARDS.get(), id(self)
        if forwards and forwards[-1][0] == me:
            before = forwards[-1][1]
            _FORWARDS.set(forwards[:-1])
            _IN_CONTEXT.set(before)
            if me in before and before[me].count is not None:
                batch.end()

    @contextmanager
    def held(self, choice: Choice) -> Iterator[None]:
        """Inside, in this context, `choice` is chosen."""
        choice.let_use()
        before = _IN_CONTEXT.set({**_IN_CONTEXT.get(), id(self): choice})
        try:
            with batch.unknown():
                yield
        finally:
            _IN_CONTEXT.reset(before)

    def carried(self) -> Carried:
        """A context in which what is chosen here and now is chosen in a backward pass."""
        return Carried(self, self.choice())

    def varies(self, choice: Choice, training: bool) -> bool:
        """Whether the forwards in this mode, with this one, have had several choices, of which a
        backward pass may not find the right one."""
        computed = self._computed[training]
        if not self.has_rows and len(computed) < 2:
            computed.add(choice.key)
        return self.has_rows or len(computed) > 1

    def require_carried(self, place: str) -> None:
        """Raise StateError if this choice was not carried into the backward pass that asks."""
        if id(self) not in _CARRIED.get():
            raise StateError(
                f"{place} is recomputed by gradient checkpointing, which does not know the "
                "adapters of its forward, and there were others. Pass them on: checkpoint(..., "
                "use_reentrant=False, context_fn=adapters.context_fn); transformers takes both in "
                "gradient_checkpointing_kwargs. The re-entrant kind cannot carry them."
            )


class Carried:
    """What was chosen in a forward, to be chosen where it is recomputed; entered any number of
    times."""

    def __init__(self, routing: Routing, choice: Choice) -> None:
        self._routing, self._choice = routing, choice
        self._open: list[ExitStack] = []

    def __enter__(self) -> None:
        stack = ExitStack()
        stack.enter_context(self._routing.held(self._choice))
        before = _CARRIED.set(_CARRIED.get() | {id(self._routing)})
        stack.callback(_CARRIED.reset, before)
        self._open.append(stack)

    def __exit__(self, *_: object) -> None:
        self._open.pop().close()
