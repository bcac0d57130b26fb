"""Which adapter a forward uses: the default of a set, or the rows of the context that runs it.

Every module of a set asks one object, so a switch is one assignment. The default is for all
threads. What `rows` sets is in a context variable: of the thread, or of the asyncio task, that
entered it. A task begins with the context of what created it; a thread begins with none, unless it
is run in a copy (`contextvars.copy_context().run`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from lorakit.adapters.batch import Batch
from lorakit.adapters.choices import BASE, Choice, Place, Rows
from lorakit.adapters.scopes import HERE, Forward, Scope, caller, settled
from lorakit.adapters.slab import Slab
from lorakit.errors import StateError

_CARRIED: ContextVar[frozenset[object]] = ContextVar("AdapterSet.context_fn", default=frozenset())
"""The keys of those whose choice gradient checkpointing has carried here."""

RECENT = 4
"""Compositions of a batch whose plans are kept, so that a loop over batches finds them again."""


class Routing:
    """The default choice of a set, and those of contexts."""

    def __init__(self, in_pieces: bool = False) -> None:
        self.key = object()
        """By which contexts know it. A context may outlive it, and no other ever has this key."""
        self._in_pieces = in_pieces
        """Whether the model cuts rows into pieces, see `layouts`."""
        self.default: Choice = BASE
        self.has_rows = False
        """Whether `rows` was ever used, so that a backward pass may not find what forward had."""
        self.trains = False
        """Whether an adapter that trains ever came."""
        self.slabs: set[Slab] = set()
        """What is beside the base, and goes where its modules go."""
        self.changes = 0
        """How often modules were said to have changed, by a move or by `lorakit.refresh`."""
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
        settled()
        self.slabs.discard(slab)
        for key in [key for key in self._recent if slab in key]:
            self._recent.pop(key, None)

    def forget(self, place: Place) -> None:
        """Find the plans of this place anew: its module has changed."""
        self.changes += 1
        self._recent.clear()
        self.default.forget(place)
        self.choice().forget(place)

    def choose(self, default: Choice) -> None:
        """Let this be the default of each forward that begins from now on."""
        settled()
        default.let_use()
        self.default = default

    def choice(self) -> Choice:
        """What is chosen here and now."""
        chosen = HERE.get().chosen
        return chosen.get(self.key, self.default) if chosen else self.default

    def begin(self, _: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Before a forward of the model: the default of now is its to the end.

        Raises StateError for another number of rows than was named.
        """
        if torch.compiler.is_compiling():
            return
        scope, choice, me = settled(), self.choice(), self.key
        if me not in scope.chosen:
            choice.let_use()
        batch = scope.batch if choice.count is None else Batch.of(args, kwargs, self._in_pieces)
        HERE.set(Scope({**scope.chosen, me: choice}, batch, Forward(me, caller(2), scope)))
        if choice.count is not None and batch is not None:
            batch.require(choice.count)

    def end(self, *_: object) -> None:
        """After it: what was chosen before is again."""
        if torch.compiler.is_compiling():
            return
        forward = HERE.get().forward
        if forward is not None and forward.key is self.key:
            HERE.set(forward.before)

    @contextmanager
    def held(self, choice: Choice) -> Iterator[None]:
        """Inside, in this context, `choice` is chosen."""
        choice.let_use()
        before = HERE.set(Scope({**settled().chosen, self.key: choice}))
        try:
            yield
        finally:
            HERE.reset(before)

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
        if self.key not in _CARRIED.get():
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
        before = _CARRIED.set(_CARRIED.get() | {self._routing.key})
        stack.callback(_CARRIED.reset, before)
        self._open.append(stack)

    def __exit__(self, *_: object) -> None:
        self._open.pop().close()
