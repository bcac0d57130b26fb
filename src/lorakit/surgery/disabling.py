"""Modules that run as before they were altered, for a while and in one thread.

As `torch.no_grad` it is the thread's own: another thread is not affected, and one that is started
inside does not inherit it. Compiled code guards it. A replica of DataParallel runs in a thread of
its own and has the state of the thread that made it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from torch import Tensor, nn

from lorakit.surgery.alteration import Alteration, altered

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")


class _Block(NamedTuple):
    ids: frozenset[int]
    modules: tuple[nn.Module, ...]
    """Held, so that no other module gets the identity of one."""
    key: object
    """Of the `Disabled` that opened it, which a block must not keep alive."""


class _Thread(threading.local):
    def __init__(self) -> None:
        self.disabled: tuple[_Block, ...] = ()
        """The blocks that are open, the innermost last."""


here = _Thread()
"""Of the thread that reads it. Every forward asks, so it must cost no call."""


def is_disabled(module: nn.Module) -> bool:
    """Whether this thread is in a block that disables this module."""
    return any(id(module) in block.ids for block in here.disabled)


class Disabled:
    """A context in which modules are disabled, and read what waits in their `Alteration`.

    Which ones is asked on entry. It can be entered again, inside itself as well, and decorates
    functions. Entering and leaving are one assignment each: an interrupt finds the state on or off.
    """

    def __init__(self, find_modules: Callable[[], Iterable[nn.Module]]) -> None:
        self._find_modules = find_modules
        self._key = object()

    def __enter__(self) -> None:
        modules = tuple(self._find_modules())
        here.disabled = (*here.disabled, _Block(frozenset(map(id, modules)), modules, self._key))

    def __exit__(self, *_: object) -> None:
        blocks = here.disabled
        own = [at for at, block in enumerate(blocks) if block.key is self._key]
        if own:  # not in a thread that did not enter
            here.disabled = blocks[: own[-1]] + blocks[own[-1] + 1 :]

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, which runs inside a block of its own each time."""

        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            with Disabled(self._find_modules):
                return function(*args, **kwargs)

        return inside

    def __del__(self) -> None:
        """Leave what an interrupt may have kept open."""
        if here is not None:  # as it is when Python ends
            here.disabled = tuple(block for block in here.disabled if block.key is not self._key)


class Disableable(nn.Module):
    """The base of mixins in front of a module's class that change what it computes."""

    def is_off(self) -> bool:
        """Whether it computes what it did before, here and now."""
        return bool(here.disabled and is_disabled(self)) or _AS_REPLICA in self.__dict__

    def _replicate_for_data_parallel(self) -> Self:
        replica = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        if is_disabled(self):
            replica.__dict__[_AS_REPLICA] = True
        made: Self = replica
        return made


class ReadsOriginals(Disableable):
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
