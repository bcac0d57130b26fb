"""Rows as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table; a spread is its median with the smallest and the largest value.

    >>> print(markdown([{"a": 1, "b": {"median": 2.0, "min": 1.0, "max": 3.25}}]))
    | a | b |
    | --- | --- |
    | 1 | 2 (1 to 3.25) |
    """
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*map(cell, r.values())] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    if isinstance(value, dict):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
