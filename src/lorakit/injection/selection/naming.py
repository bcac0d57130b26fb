"""Dotted module names: matching them, and shortening them for messages and files."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from itertools import chain

from torch import nn

from lorakit.layer_groups import is_index


def matches_suffix(name: str, suffix: str) -> bool:
    """Whether `suffix` is the name or its end after a dot."""
    return name == suffix or name.endswith(f".{suffix}")


def within(name: str, container: str) -> bool:
    """Whether this is the container or something in it."""
    return name == container or name.startswith(f"{container}.")


def last_parts(name: str, count: int) -> str:
    """The end of a name.

    >>> last_parts("model.layers.0.mlp.experts.down_proj", 2)
    'experts.down_proj'
    """
    return ".".join(name.split(".")[-count:])


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
        return next((int(part) for part in parts if is_index(part)), None)
    places = [(i, ".".join(parts[:i])) for i, part in enumerate(parts[:-1]) if is_index(part)]
    found = (i for owner in lists for i, before in places if matches_suffix(before, owner))
    return next((int(parts[i]) for i in found), None)


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
