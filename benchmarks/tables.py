"""Rows as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as tables, a new one where the columns change; a spread is its median with the
    smallest and the largest value.

    >>> print(markdown([{"a": 1, "b": {"median": 2.0, "min": 1.0, "max": 3.25}}]))
    | a | b |
    | --- | --- |
    | 1 | 2 (1 to 3.25) |
    >>> markdown([{"a": 1}, {"b": 2}]).count("---")
    2
    """
    return "\n\n".join(_table(names, list(group)) for names, group in groupby(rows, key=list))


def _table(names: list[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [names, ["---"] * len(names), *([*map(cell, row.values())] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    if isinstance(value, dict):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
