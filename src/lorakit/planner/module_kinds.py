"""Which modules hold the most at the peak; those of a kind, one a layer, together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lorakit.layer_groups import without_indices
from lorakit.text import size_text, table

THE_MODEL = "(the model itself)"
"""Of what no module of it makes: the loss, and what backward and optimizer need for a moment."""


@dataclass(frozen=True)
class ModuleKind:
    """Modules whose names differ in layer numbers alone."""

    name: str
    """With * for the numbers."""
    count: int
    bytes_by: dict[str, int]
    """Of all of them together, by category."""

    @property
    def total(self) -> int:
        """All their bytes."""
        return sum(self.bytes_by.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "count": self.count,
            "bytes": self.total,
            "bytes_by": self.bytes_by,
        }


Modules = Mapping[str, Mapping[str, int]]
"""Bytes by module and category."""


def module_kinds(modules: Modules) -> list[ModuleKind]:
    """The kinds of these modules, the largest first.

    >>> [(kind.name, kind.total) for kind in module_kinds({"0.q": {"a": 1}, "1.q": {"b": 2}})]
    [('*.q', 3)]
    """
    counts: Counter[str] = Counter()
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for name, bytes_by in modules.items():
        kind = without_indices(name) if name else THE_MODEL
        counts[kind] += 1
        sizes[kind].update(bytes_by)
    kinds = [ModuleKind(name, counts[name], dict(of)) for name, of in sizes.items()]
    return sorted(kinds, key=_total, reverse=True)


def kinds_lines(methods: Mapping[str, Modules], most: int = 6) -> list[str]:
    """A table of the kinds that hold the most with any method, with what each has of them."""
    found = {name: module_kinds(modules) for name, modules in methods.items()}
    largest = sorted(chain(*(kinds[:most] for kinds in found.values())), key=_total, reverse=True)
    rows = []
    for kind in {one.name: one for one in largest}.values():
        sizes = [sum(one.total for one in of if one.name == kind.name) for of in found.values()]
        rows.append((kind.name, f"{kind.count:,}", *map(size_text, sizes)))
    return table([("held at the peak by", "modules", *found), *rows])


def _total(kind: ModuleKind) -> int:
    return kind.total
