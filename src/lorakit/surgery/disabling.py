"""Modules that run as before they were altered, for a while and in one thread.

As `torch.no_grad` it is the thread's own: another thread is not affected, and one that is started
inside does not inherit it. Compiled code guards it. A replica of DataParallel runs in a thread of
its own and has the state of the thread that made it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ContextDecorator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lorakit.surgery.alteration import Alteration, altered

if TYPE_CHECKING:
    from typing import Self


class _Thread(threading.local):
    def __init__(self) -> None:
        self.disabled: tuple[frozenset[int], ...] = ()
        """The modules of each block that is open, the innermost last."""


here = _Thread()
"""Of the thread that reads it. Every forward asks, so it must cost no call."""


def is_disabled(module: nn.Module) -> bool:
    """Whether this thread is in a block that disables this module."""
    return any(id(module) in modules for modules in here.disabled)


class Disabled(ContextDecorator):
    """A context in which these modules are disabled, and read what waits in their `Alteration`.

    Entering and leaving are one assignment each: an interrupt finds the state on or off.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules = list(modules)  # held, so that no other module gets the identity of one
        self._ids = frozenset(map(id, self._modules))

    def __enter__(self) -> None:
        here.disabled = (*here.disabled, self._ids)

    def __exit__(self, *_: object) -> None:
        here.disabled = tuple(ids for ids in here.disabled if ids is not self._ids)

    def __del__(self) -> None:
        self.__exit__()  # which an interrupt may have prevented


class ReadsOriginals(nn.Module):
    """A mixin in front of a module's class: while disabled, it reads the originals of its copies.

    `state_dict`, optimizers and pickles have the copies, as outside.
    """

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if here.disabled and is_disabled(self):
            return _original(altered(self), name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if _AS_REPLICA in self.__dict__ and isinstance(value, Tensor):
            value = _original(altered(self), name, value)
        super().__setattr__(name, value)

    def _replicate_for_data_parallel(self) -> Self:
        replica = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        if is_disabled(self):
            replica.__dict__[_AS_REPLICA] = True
        made: Self = replica
        return made


_AS_REPLICA = "_lorakit_disabled"
"""On a replica that was made while its module was disabled."""


def _original(record: Alteration, name: str, value: Any) -> Any:
    """What waits under this name, where the value in its place is and in its dtype."""
    original = record.originals.get(name)
    if original is None:
        original = record.ties.get(name)
    if original is None or original.is_meta:
        return value
    return original.to(device=value.device, dtype=value.dtype)
