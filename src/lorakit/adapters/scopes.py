"""What is chosen in a context, of a thread or an asyncio task, and for which batch.

`rows` opens a scope, and so does each forward of a set's model, which a hook ends. torch calls that
hook after an Exception too, but not after a KeyboardInterrupt, so such a scope outlives its forward
until it is found that nothing runs there any more (`settled`). Its frame keeps the model, and what
called it; so each garbage collection looks for that too.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from contextvars import ContextVar
from inspect import currentframe
from types import FrameType, MappingProxyType
from typing import NamedTuple

from lorakit.adapters.batch import Batch
from lorakit.adapters.choices import Choice

_NONE: Mapping[object, Choice] = MappingProxyType({})


class Scope(NamedTuple):
    """What holds until it ends; it is replaced and never changed."""

    chosen: Mapping[object, Choice] = _NONE
    """The choices of the sets, by the key of their routing."""
    batch: Batch | None = None
    """What is known of the forward that runs, where rows have adapters of their own."""
    forward: Forward | None = None
    """The one that opened it; none for `rows`."""


class Forward(NamedTuple):
    """A forward of a set's model."""

    key: object
    """Of the set's routing."""
    frame: FrameType | None
    """torch's function around it and its hooks; none where Python tells no frames."""
    before: Scope
    """The scope in which it began."""


_OUTSIDE = Scope()
HERE: ContextVar[Scope] = ContextVar("AdapterSet.scope", default=_OUTSIDE)


def caller(depth: int) -> FrameType | None:
    """The frame that is `depth` calls above the function which asks."""
    frame = currentframe()
    for _ in range(depth + 1):
        frame = frame and frame.f_back
    return frame


def settled() -> Scope:
    """The scope of here and now, once those of forwards that were interrupted are left."""
    scope = HERE.get()
    while (forward := scope.forward) is not None and not _runs(forward.frame):
        scope = forward.before
        HERE.set(scope)
    return scope


def _settle(*_: object) -> None:
    """Before and after a collection."""
    settled()


gc.callbacks.append(_settle)


def _runs(frame: FrameType | None) -> bool:
    """Whether a function is not yet left, in whichever thread."""
    if frame is None:
        return True
    try:
        frame.clear()
    except RuntimeError:  # as it says of one that runs
        return True
    return False
