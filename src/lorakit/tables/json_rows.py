"""JSON: one object a line, or one list of objects."""

from __future__ import annotations

import json
from typing import Any

from lorakit.errors import FormatError
from lorakit.tables.cells import is_scalar

Columns = dict[str, list[Any]]


def parse_json_lines(text: str) -> Columns:
    """The columns of objects that stand one a line; keys that a row lacks are None.

    Raises FormatError that lists the lines that are not objects.
    """
    rows, problems = [], []
    # Not splitlines: JSON's strings may hold other line separators as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(_object(json.loads(line, object_pairs_hook=_unique)))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        more = [f"and {len(problems) - 5} more lines"] if len(problems) > 5 else []
        raise FormatError("some lines are not JSON objects", [*problems[:5], *more])
    return _columns(rows)


def parse_json(text: str) -> Columns:
    """The columns of a list of objects; a file of JSON lines is read as such."""
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except ValueError:
        return parse_json_lines(text)
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise FormatError("it is not a list of objects")
    return _columns(content)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{json.dumps(value)[:40]} is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs more than once")
    return content


def _columns(rows: list[dict[str, Any]]) -> Columns:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _one_type([row.get(name) for row in rows]) for name in names}


def _one_type(values: list[Any]) -> list[Any]:
    """Numbers and texts in one column become texts, since a column has one type."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 or kinds == {int, float} or not all(map(is_scalar, values)):
        return values
    return [None if value is None else str(value) for value in values]
