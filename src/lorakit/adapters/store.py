"""The adapters of a set by name, and who holds them.

Whoever computes with an adapter *holds* it: it comes in, from host memory or its file, and stays
until it is released. What is held at one time never takes more than the budget, so there is always
something in `memory` to be let go of.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition, RLock
from weakref import ref

from lorakit.adapters.budget import Budget, too_small
from lorakit.adapters.catalogue import require_known
from lorakit.adapters.loaded import Loaded
from lorakit.adapters.member import STAY, Holder, Member, bytes_of
from lorakit.adapters.memory import Memory
from lorakit.adapters.routing import Routing
from lorakit.adapters.slab import DeviceOf, Slab
from lorakit.adapters.waiting import Waiter, never_let_go
from lorakit.errors import StateError

Fetch = Callable[[Member], Slab]
"""Reads the file of an adapter again."""


class Store:
    """The adapters of a set, and what makes them come in and stay."""

    def __init__(self, routing: Routing, budget: Budget, fetch: Fetch, device_of: DeviceOf) -> None:
        self.members: dict[str, Member] = {}
        self.changed = Condition(RLock())
        """Held while names come and go and adapters move; forwards need it not."""
        self._budget, self._fetch = budget, fetch
        self._memory = Memory(routing, budget, device_of)
        self._held: dict[Member, None] = {}
        self._waiting: list[Waiter] = []
        self._pool: ThreadPoolExecutor | None = None

    @property
    def is_limited(self) -> bool:
        """Whether adapters may have to leave."""
        return self._budget.bytes is not None

    def member(self, name: str) -> Member:
        """The adapter called `name`; raises StateError if there is none."""
        require_known([name], self.members)
        return self.members[name]

    # --- come and go

    def require_fits(self, loaded: Loaded) -> None:
        """Raise StateError for an adapter without room; one that trains always takes it."""
        held = self._held if loaded.source is None else ()
        fixed = sum(member.nbytes for member in held)
        self._require(f"The adapter {loaded.name!r} takes", loaded.nbytes, fixed)

    def add(self, member: Member, slab: Slab) -> None:
        """A new adapter that fits; it comes in if there is room beside those that are held."""
        with self.changed:
            self.members[member.name] = member
            if member.trains:
                self._hold(member, "training")
            self._memory.put(member, slab)

    def remove(self, name: str) -> None:
        """Forget the adapter called `name`; raises StateError while `rows` use it."""
        with self.changed:
            member = self.members[name]
            if any(holder not in STAY for holder in member.holders):
                raise StateError(f"The adapter {name!r} is in use by rows(); leave it first.")
            del self.members[name]
            self._held.pop(member, None)
            self._memory.forget(member)
            self.changed.notify_all()

    def clear(self) -> None:
        """Forget all."""
        with self.changed:
            for member in self.members.values():
                self._memory.forget(member)
            self.members.clear()
            self._held.clear()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            self.changed.notify_all()

    def slab_of(self, member: Member) -> Slab:
        """What it has, wherever it is; it does not come in for that."""
        with member.reading:
            return self._slab_of(member)

    def _slab_of(self, member: Member) -> Slab:
        with self.changed:
            found = member.slab or member.on_host
        found = found or member.was_read()
        if found is None:
            found = self._fetch(member)
            member.was_read = ref(found)
        return found

    # --- hold

    @contextmanager
    def holding(
        self, names: Iterable[str], holder: Holder, what: str
    ) -> Iterator[dict[str, Member]]:
        """Let the adapters of these names be beside the base until `release`; inside, locked.

        "active" ones take the place of those that were active. Waits while other threads' `rows`
        take the room, unless these wait as well.

        Raises StateError for unknown names, or if the budget has no room for all of these, and
        FormatError if a file is gone or has changed; nothing is held then.
        """
        wanted = list(names)
        read: dict[Member, Slab] = {}
        while True:
            with self.changed:
                members = self._with_room(wanted, holder, what)
                away = [member for member in members.values() if member.slab is None]
                missing = [m for m in away if m.on_host is None and m not in read]
                if not missing:
                    if holder == "active":
                        self.release([m for m in self._held if holder in m.holders], holder)
                    for member in members.values():
                        self._hold(member, holder)
                    # found before one comes in, since what leaves for it may push others out
                    slabs = [member.on_host or read[member] for member in away]
                    try:
                        for member, slab in zip(away, slabs, strict=True):
                            self._memory.bring(member, slab)
                    except BaseException:  # out of memory there
                        self.release(members.values(), holder)
                        raise
                    yield members
                    return
            for member in missing:
                read[member] = self.slab_of(member)

    def release(self, members: Iterable[Member], holder: Holder) -> None:
        """End what `holding` began."""
        with self.changed:
            for member in members:
                member.holders.remove(holder)
                if not member.holders:
                    self._held.pop(member, None)  # `clear` has forgotten it
            self.changed.notify_all()

    def pin(self, name: str) -> None:
        """Hold the adapter called `name` until `unpin`; again it does nothing."""
        with self.holding([name], "pinned", "pin()") as members:
            if members[name].holders.count("pinned") > 1:
                self.release(members.values(), "pinned")

    def unpin(self, name: str) -> None:
        """End what `pin` began, if it did."""
        with self.changed:
            member = self.member(name)
            if "pinned" in member.holders:
                self.release([member], "pinned")

    def prefetch(self, names: Iterable[str | None]) -> Future[None]:
        """Let these come in while others compute, as far as there is room beside what is held."""
        wanted = [name for name in names if name is not None]
        with self.changed:
            require_known(wanted, self.members)
            members = [self.members[name] for name in dict.fromkeys(wanted)]
            self._require(_needs("prefetch()", members), bytes_of(members), 0)
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "lorakit-prefetch")
            return self._pool.submit(self._prefetch, [(m, m.arrivals) for m in members])

    def _prefetch(self, asked: Iterable[tuple[Member, int]]) -> None:
        """Bring these in, but for those that are gone or have come in since they were asked for:
        who needed one was faster, and it may have left again for others."""
        for member, arrivals in asked:
            with member.reading:  # who reads it just now is waited for
                slab = self._slab_of(member) if self._is_awaited(member, arrivals) else None
            with self.changed:
                if slab is None or not self._is_awaited(member, arrivals):
                    continue
                if member.slab is not None:
                    self._memory.touch(member)
                else:
                    self._memory.put(member, slab)

    def _is_awaited(self, member: Member, arrivals: int) -> bool:
        """Whether it is in the set, and has come in no more often than so."""
        return self.members.get(member.name) is member and member.arrivals == arrivals

    # --- under the lock

    def _hold(self, member: Member, holder: Holder) -> None:
        member.holders.append(holder)
        self._held[member] = None
        self._memory.touch(member)
        if holder in STAY:
            self.changed.notify_all()  # who waits for its room may now wait in vain

    def _with_room(self, names: Collection[str], holder: Holder, what: str) -> dict[str, Member]:
        """The adapters of these names, as soon as all can be held.

        Raises StateError where it does not help that other threads leave their `rows`, or where
        they wait for room too.
        """
        budget = self._budget.bytes
        while True:
            require_known(names, self.members)
            members = {name: self.members[name] for name in names}
            if budget is None:
                return members
            wanted = {*members.values()}
            me = Waiter(wanted, holder)
            held = {m for m in self._held if any(not me.replaces(h) for h in m.holders)}
            if bytes_of(wanted | held) <= budget:
                return members
            stays = never_let_go(me, self._waiting, self._held, budget)
            if stays is not None:
                raise too_small(_needs(what, wanted), bytes_of(wanted), budget, bytes_of(stays))
            self._waiting.append(me)
            try:
                self.changed.wait()
            finally:
                self._waiting.remove(me)

    def _require(self, what: str, needed: int, others: int) -> None:
        budget = self._budget.bytes
        if budget is not None and needed + others > budget:
            raise too_small(what, needed, budget, others)


def _needs(what: str, members: Collection[Member]) -> str:
    count = len(members)
    return f"{what} needs " + ("an adapter of" if count == 1 else f"{count} adapters of")
