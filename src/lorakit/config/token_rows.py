"""The `trainable_token_indices` of a LoraConfig: which rows of which modules are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.config.values import is_index, is_name
from lorakit.text import repeated

TokenRows = tuple[int, ...]
"""Row numbers in ascending order, each once."""


def normalised_rows(
    given: Any,
) -> tuple[TokenRows | dict[str, TokenRows] | None, list[str]]:
    """Ascending row numbers, by module where modules are named, and a list of what is invalid."""
    if given is None:
        return None, []
    field = "trainable_token_indices"
    if not isinstance(given, Mapping):
        return _rows(field, given)
    if not given or not all(map(is_name, given)):
        return None, [f"{field} is {given!r}; its keys must be names of modules"]
    found = {name: _rows(f"{field}[{name!r}]", rows) for name, rows in given.items()}
    problems = [problem for _, wrong in found.values() for problem in wrong]
    return {name: rows for name, (rows, _) in found.items() if rows}, problems


def _rows(field: str, given: Any) -> tuple[TokenRows | None, list[str]]:
    listed = isinstance(given, list | tuple | range) and len(given) > 0
    if not listed or not all(map(is_index, given)):
        return None, [f"{field} is {given!r}; it must list one or more integers >= 0"]
    if twice := repeated(given):
        return None, [f"{field} lists {', '.join(map(str, twice))} more than once"]
    return tuple(sorted(given)), []
