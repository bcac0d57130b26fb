"""Who waits for room in a budget, and whether that can end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import get_ident

from lorakit.adapters.member import STAY, Holder, Member, Use, bytes_of

_AROUND: ContextVar[frozenset[Use]] = ContextVar("AdapterSet.uses", default=frozenset())
"""The `rows` that are entered in this context, or in the one that it is a copy of."""


@contextmanager
def entered(use: Use) -> Iterator[None]:
    """Inside, whoever waits in this context or a copy of it waits inside of these `rows`."""
    before = _AROUND.set(_AROUND.get() | {use})
    try:
        yield
    finally:
        _AROUND.reset(before)


@dataclass(eq=False)
class Waiter:
    """What has to have room, and what does not leave as long as it has none."""

    wanted: Collection[Member]
    holder: Holder
    """As what it is to have it."""
    around: frozenset[Use] = field(default_factory=_AROUND.get)
    thread: int = field(default_factory=get_ident)

    def replaces(self, holder: Holder) -> bool:
        """Whether this holder makes way for it: what is to be active takes the place of what is."""
        return holder == self.holder == "active"

    def keeps(self, holder: Holder) -> bool:
        """Whether this holder has to wait for it; another thread may wait in a copy of a context,
        as of a task, which then waits for that thread."""
        return isinstance(holder, Use) and (holder in self.around or holder.thread == self.thread)


def never_let_go(
    me: Waiter, others: Sequence[Waiter], held: Collection[Member], budget: int
) -> set[Member] | None:
    """What stays in the way of `me` for ever; None if it is enough to wait.

    Threads that do not wait let go of theirs some time, and then those for which that makes room.
    """
    waiting = [me, *others]
    while True:
        ready = []
        for waiter in waiting:
            kept = {m for m in held if any(_stays(h, waiter, waiting) for h in m.holders)}
            if bytes_of({*waiter.wanted, *kept}) <= budget:
                ready.append(waiter)
            elif waiter is me:
                in_the_way = kept.difference(me.wanted)
        if me in ready:
            return None
        if not ready:
            return in_the_way
        waiting = [waiter for waiter in waiting if waiter not in ready]


def _stays(holder: Holder, waiter: Waiter, waiting: Sequence[Waiter]) -> bool:
    if holder in STAY:
        return not waiter.replaces(holder)
    return any(other.keeps(holder) for other in waiting)
