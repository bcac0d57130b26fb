"""One adapter of a set, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock, get_ident

from lorakit.adapters.entry import Parts
from lorakit.adapters.loaded import Loaded, Where
from lorakit.adapters.origin import Origin
from lorakit.adapters.slab import Slab

STAY = ("active", "pinned", "training")


@dataclass(frozen=True, eq=False)
class Use:
    """One entry into `rows`."""

    thread: int = field(default_factory=get_ident)


Holder = Use | str
"""Who uses an adapter by `rows`, or one of the reasons in `STAY`."""


@dataclass(eq=False)
class Member:
    """One adapter of a set, wherever it is."""

    loaded: Loaded
    variants: frozenset[str]
    """Names of its adapters' variants."""
    brings_own: bool
    """Whether it has heads or biases."""
    trains: bool
    origin: Origin | None = None
    """Its file; none for one that trains."""
    mixed_up: Sequence[tuple[str, str]] = ()
    """Its modules whose input does not begin with the rows of a batch, each with why."""
    slab: Slab | None = None
    """Beside the base, ready to compute with."""
    arrivals: int = 0
    """How often it has come there."""
    on_host: Slab | None = None
    """In host memory, while it is not beside the base."""
    holders: list[Holder] = field(default_factory=list)
    """Why it has to stay beside the base."""
    reading: Lock = field(default_factory=Lock)
    """Held while its file is read again."""
    was_read: Callable[[], Slab | None] = lambda: None
    """What was read then, while someone has it."""

    @property
    def name(self) -> str:
        """By which the set knows it."""
        return self.loaded.name

    @property
    def nbytes(self) -> int:
        """Of its tensors."""
        return self.loaded.nbytes

    @property
    def where(self) -> Where:
        """Where it is now."""
        if self.slab is not None:
            return "device"
        return "disk" if self.on_host is None else "host"


def member_of(
    loaded: Loaded,
    parts: Parts,
    origin: Origin | None,
    mixed_up: Sequence[tuple[str, str]] = (),
) -> Member:
    """A member that is nowhere yet."""
    adapters = [entry.adapter for entry in parts.values() if entry.adapter is not None]
    return Member(
        loaded,
        frozenset(adapter.spec.variant for adapter in adapters),
        any(entry.own for entry in parts.values()),
        any(entry.trains for entry in parts.values()),
        origin,
        mixed_up,
    )


def bytes_of(members: Iterable[Member]) -> int:
    """What they take together."""
    return sum(member.nbytes for member in members)
