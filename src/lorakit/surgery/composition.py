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


def _reduce(module: Any, protocol: int) -> tuple[Any, ...]:
    """For copy and pickle, which look a class up by its name: its bases instead."""
    reduced: Any = nn.Module.__reduce_ex__(module, protocol)
    return (_empty, (type(module)._bases,), *reduced[2:])


def _empty(bases: tuple[type[nn.Module], ...]) -> nn.Module:
    made = composed(bases)
    instance: nn.Module = made.__new__(made)
    return instance
