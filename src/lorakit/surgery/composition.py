"""Classes that are composed while a program runs, of mixins and the class that a module has."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


@cache
def composed(bases: tuple[type[nn.Module], ...]) -> type[nn.Module]:
    """The class with these bases, one for all modules, which can be copied and pickled."""
    name = "".join(base.__name__ for base in bases)
    body = {"__module__": __name__, "__reduce_ex__": _reduce, "_bases": bases}
    made: type[nn.Module] = type(name, bases, body)
    return made


def bases_of(kind: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    """What a composed class was composed of; another class is its own only base."""
    bases: tuple[type[nn.Module], ...] = vars(kind).get("_bases", (kind,))
    return bases


def mix_in(module: nn.Module, mixin: type[nn.Module]) -> None:
    """Put a mixin in front of the module's class; its name stays, for reports and files."""
    if isinstance(module, mixin):
        return
    original = type(module)
    made = composed((mixin, *bases_of(original)))
    made.__name__, made.__qualname__ = original.__name__, original.__qualname__
    made.__module__ = original.__module__
    module.__class__ = made


def mix_out(module: nn.Module, mixin: type[nn.Module]) -> None:
    """Take such a mixin away."""
    if isinstance(module, mixin):
        bases = tuple(base for base in bases_of(type(module)) if base is not mixin)
        module.__class__ = bases[0] if len(bases) == 1 else composed(bases)


def _reduce(module: Any, protocol: int) -> tuple[Any, ...]:
    """For copy and pickle, which look a class up by its name: its bases instead."""
    reduced: Any = nn.Module.__reduce_ex__(module, protocol)
    return (_empty, (type(module)._bases,), *reduced[2:])


def _empty(bases: tuple[type[nn.Module], ...]) -> nn.Module:
    made = composed(bases)
    instance: nn.Module = made.__new__(made)
    return instance
