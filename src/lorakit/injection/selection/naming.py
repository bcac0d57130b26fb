"""Dotted module names: matching them, and shortening them for messages and files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from itertools import chain

from torch import nn


def matches_suffix(name: str, suffix: str) -> bool:
    """Whether `suffix` is the name or its end after a dot."""
    return name == suffix or name.endswith(f".{suffix}")


def within(name: str, container: str) -> bool:
    """Whether this is the container or something in it."""
    return name == container or name.startswith(f"{container}.")


def names_by_suffix(names: Iterable[str], suffixes: Iterable[str]) -> dict[str, list[str]]:
    """The names that each suffix matches; in linear time, since a file may list a suffix a module.

    >>> names_by_suffix(["0.q", "0.k", "1.q"], ["q", "1.q", "x"])
    {'q': ['0.q', '1.q'], '1.q': ['1.q'], 'x': []}
    """
    found: dict[str, list[str]] = {suffix: [] for suffix in suffixes}
    for name in names:
        for suffix in _suffixes(name):
            if suffix in found:
                found[suffix].append(name)
    return found


def ending_in_any(names: Iterable[str], suffixes: Iterable[str]) -> list[str]:
    """The names that any of the suffixes matches, in their order."""
    found = names_by_suffix(names := list(names), suffixes)
    matched = set(chain.from_iterable(found.values()))
    return [name for name in names if name in matched]


def same_but_for_prefix(names: Iterable[str], others: Iterable[str]) -> tuple[str, str] | None:
    """A name of each, one of which is the end of the other after a dot; in linear time, too.

    >>> same_but_for_prefix(["0.k", "0.q"], ["model.0.q"])
    ('0.q', 'model.0.q')
    """
    here, there = dict.fromkeys(names), dict.fromkeys(others)
    ends = ((name, end) for name in here for end in _suffixes(name) if end in there)
    begun = ((end, name) for name in there for end in _suffixes(name) if end in here)
    return next(chain(ends, begun), None)


def within_any(name: str, containers: Container[str]) -> bool:
    """Whether this is one of the containers or something in one of them; in linear time, too."""
    while name:
        if name in containers:
            return True
        name = name.rpartition(".")[0]
    return False


def layer_index(name: str, lists: Iterable[str] | None = None) -> int | None:
    """The first number in a dotted name, the index of its layer; or the first after one of `lists`.

    >>> layer_index("encoder.layer.3.attention.0.query")
    3
    >>> layer_index("stages.1.layers.3.query", ["layers"])
    3
    """
    parts = name.split(".")
    if lists is None:
        return next((int(part) for part in parts if _is_index(part)), None)
    places = [(i, ".".join(parts[:i])) for i, part in enumerate(parts[:-1]) if _is_index(part)]
    found = (i for owner in lists for i, before in places if matches_suffix(before, owner))
    return next((int(parts[i]) for i in found), None)


def _is_index(part: str) -> bool:
    """Whether a part of a name is a number, as short as those of layers."""
    return part.isdecimal() and len(part) < 10


def without_indices(name: str) -> str:
    """A name with its layer numbers replaced, to group layers that differ in nothing else.

    >>> without_indices("encoder.layer.3.attention.query")
    'encoder.layer.*.attention.query'
    """
    return ".".join("*" if _is_index(part) else part for part in name.split("."))


def group_layers(problems: Iterable[tuple[str, str]]) -> list[str]:
    """(name, what is wrong) pairs as sentences; one for all layers that have the same problem.

    >>> group_layers([(f"layer.{n}.q", "is missing") for n in (10, 2, 1, 0)])
    ['layer.{0-2,10}.q is missing']
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, text in problems:
        groups.setdefault((without_indices(name), text), []).append(name)
    return [f"{joined(names)} {text}" for (_, text), names in groups.items()]


def joined(names: list[str]) -> str:
    """Names that differ in one number as one, with all of its values; else a list."""
    columns = [
        list(dict.fromkeys(parts)) for parts in zip(*(n.split(".") for n in names), strict=True)
    ]
    if len(names) == 1 or sum(len(column) > 1 for column in columns) != 1:
        return ", ".join(names)
    return ".".join(c[0] if len(c) == 1 else f"{{{ranges(map(int, c))}}}" for c in columns)


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order, three or more in a row as first-last.

    >>> ranges([40, 41, 42, 7])
    '7,40-42'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def shortest_suffixes(model: nn.Module, names: list[str]) -> list[str] | str:
    """Suffixes, as short as they can be, that match exactly `names` among the model's modules.

    Where a full name is also a suffix of another one, no list of suffixes can: then it is one
    regular expression.

    >>> net = nn.ModuleDict({"a": nn.ModuleDict({"q": nn.Linear(1, 1)}),
    ...                      "b": nn.ModuleDict({"q": nn.Linear(1, 1), "k": nn.Linear(1, 1)})})
    >>> shortest_suffixes(net, ["a.q", "b.q"]), shortest_suffixes(net, ["a.q"])
    (['q'], ['a.q'])
    """
    wanted = set(names)
    owners: dict[str, set[str]] = {}
    for name, _ in model.named_modules(remove_duplicate=False):
        for suffix in _suffixes(name):
            owners.setdefault(suffix, set()).add(name)
    shortest: dict[str, None] = {}
    for name in names:
        exact = next((s for s in _suffixes(name) if owners[s] <= wanted), None)
        if exact is None:
            return "|".join(re.escape(name) for name in names)
        shortest[exact] = None
    return list(shortest)


def _suffixes(name: str) -> list[str]:
    """Every dotted ending of a name, the shortest first."""
    parts = name.split(".")
    return [".".join(parts[i:]) for i in reversed(range(len(parts)))]
