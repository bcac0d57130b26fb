"""Matrices of a kind, one a layer, under one name: a large model has hundreds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lorakit.layer_groups import joined, without_indices

T = TypeVar("T")

SINGLE = 24
"""How many rows are listed one by one."""


@dataclass(frozen=True)
class Group(Generic[T]):
    """Things that differ in the numbers in their names."""

    name: str
    """layer.{0-5}.query."""
    members: tuple[T, ...]


def grouped(
    things: Sequence[T], name: Callable[[T], str], alike: Callable[[T], Hashable]
) -> list[Group[T]]:
    """A group for each kind of name, of those that are alike; for each of few things one."""
    if len(things) <= SINGLE:
        return [Group(name(thing), (thing,)) for thing in things]
    groups: dict[Hashable, list[T]] = {}
    for thing in things:
        groups.setdefault((without_indices(name(thing)), alike(thing)), []).append(thing)
    return [Group(_label([*map(name, group)]), tuple(group)) for group in groups.values()]


def _label(names: list[str]) -> str:
    """The names as one: with the values of their number, or with * for several numbers."""
    label = joined(names)
    return f"{without_indices(names[0])} ({len(names)})" if ", " in label else label


def band(values: Iterable[float]) -> str:
    """The least and the greatest as text, or one where they read alike.

    >>> band([0.5, 0.25, 0.3]), band([2.0, 2.0001])
    ('0.25 to 0.5', '2')
    """
    ordered = sorted(values)
    least, greatest = (f"{end:.3g}" for end in (ordered[0], ordered[-1]))
    return least if least == greatest else f"{least} to {greatest}"
