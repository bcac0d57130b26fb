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
from typing import Protocol

from torch import Tensor

from lorakit.adapters.entry import Entry, Member
from lorakit.errors import StateError
from lorakit.variants.combination import weighted_sum


class Plan(Protocol):
    """What runs in the place of a module's forward."""

    def __call__(self, input: Tensor) -> Tensor: ...


class Place(Protocol):
    """One module of a set."""

    def single(self, entry: Entry) -> Plan:
        """The plan where all rows have this adapter."""

    def mixed(self, entries: Sequence[Entry | None]) -> Plan | None:
        """The plan where row n has the adapter entries[n]."""


class Choice:
    """What each place runs, found when it is first asked; by itself the base everywhere."""

    weights: Mapping[str, float] = MappingProxyType({})
    """The adapters that a default has chosen, and how much of each."""

    def __init__(self) -> None:
        self._plans: dict[Place, Plan | None] = {}

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

    def forget_plans(self) -> None:
        """Find every plan anew: the adapters have moved."""
        self._plans = {}

    def forget(self, place: Place) -> None:
        """Find this plan anew: the module has changed."""
        self._plans.pop(place, None)

    def __getstate__(self) -> dict[str, object]:
        """For copy and pickle: plans are found again."""
        return {**self.__dict__, "_plans": {}}


class Rows(Choice):
    """Row n of a batch has the adapter members[n], or none."""

    def __init__(self, members: Sequence[Member | None]) -> None:
        super().__init__()
        self._members = tuple(members)

    def make_plan(self, place: Place) -> Plan | None:
        return place.mixed([None if m is None else m.entries.get(place) for m in self._members])


class One(Choice):
    """One adapter for all rows."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.weights = {member.name: 1.0}
        self._member = member

    def make_plan(self, place: Place) -> Plan | None:
        entry = self._member.entries.get(place)
        return None if entry is None else place.single(entry)


class Sum(Choice):
    """A weighted sum of the updates of several adapters, for all rows."""

    def __init__(self, terms: Mapping[Member, float]) -> None:
        super().__init__()
        self.weights = {member.name: weight for member, weight in terms.items()}
        self._terms = terms

    def make_plan(self, place: Place) -> Plan | None:
        found = [(m.entries[place], w) for m, w in self._terms.items() if place in m.entries]
        values = [(value, w) for entry, w in found if (value := entry.value()) is not None]
        return place.single(Entry(weighted_sum(values))) if values else None


BASE = Choice()
_NONE: Mapping[int, Choice] = MappingProxyType({})
_IN_CONTEXT: ContextVar[Mapping[int, Choice]] = ContextVar("AdapterSet.rows", default=_NONE)
"""The choices of the sets, by the number of their routing; replaced and never changed."""


RECENT = 4
"""Compositions of a batch whose plans are kept, so that a loop over batches finds them again."""


_CARRIED: ContextVar[frozenset[int]] = ContextVar("AdapterSet.context_fn", default=frozenset())
"""The routings whose choice gradient checkpointing has carried here."""


class Routing:
    """The default choice of a set, and those of contexts."""

    def __init__(self) -> None:
        self.default: Choice = BASE
        self.has_rows = False
        """Whether `rows` was ever used, so that a backward pass may not find what forward had."""
        self._recent: dict[tuple[Member | None, ...], Rows] = {}

    def rows(self, members: Sequence[Member | None]) -> Rows:
        """The choice of these adapters for the rows of a batch."""
        self.has_rows = True
        key = tuple(members)
        found = self._recent.pop(key, None) or Rows(key)
        self._recent[key] = found
        for old in list(self._recent)[:-RECENT]:
            self._recent.pop(old, None)
        return found

    def forget_plans(self) -> None:
        """Find every plan anew: adapters have come, gone or moved."""
        self._recent.clear()
        self.default.forget_plans()

    def forget(self, place: Place) -> None:
        """Find the plans of this place anew: its module has changed."""
        self._recent.clear()
        self.default.forget(place)
        self.choice().forget(place)

    def choice(self) -> Choice:
        """What is chosen here and now."""
        chosen = _IN_CONTEXT.get()
        return chosen.get(id(self), self.default) if chosen else self.default

    @contextmanager
    def held(self, choice: Choice) -> Iterator[None]:
        """Inside, in this context, `choice` is chosen."""
        before = _IN_CONTEXT.set({**_IN_CONTEXT.get(), id(self): choice})
        try:
            yield
        finally:
            _IN_CONTEXT.reset(before)

    def carried(self) -> Carried:
        """A context in which what is chosen here and now is chosen in a backward pass."""
        return Carried(self, self.choice())

    def require_carried(self, place: str) -> None:
        """Raise StateError if this choice was not carried into the backward pass that asks."""
        if id(self) not in _CARRIED.get():
            raise StateError(
                f"{place} is recomputed by gradient checkpointing, which does not know the rows "
                "of its forward. Pass them on: checkpoint(..., use_reentrant=False, context_fn="
                "adapters.context_fn); transformers takes both in gradient_checkpointing_kwargs. "
                "The re-entrant kind cannot carry them."
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
