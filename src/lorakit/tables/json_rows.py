"""JSON: one object a line, or one list of objects, or such a list under "data"; pandas' columns.

{"text": "a", "label": 1}               a line for each row
[{"text": "a", "label": 1}]             one list
{"data": [{"text": "a", "label": 1}]}   pandas' orient="table", SQuAD
{"text": {"0": "a"}, "label": {"0": 1}} pandas' orient="columns", which is its default
{"text": ["a"], "label": [1]}           columns as lists
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from lorakit.errors import FormatError
from lorakit.foreign_files import is_deeper
from lorakit.tables.cells import is_scalar
from lorakit.tables.chunks import in_chunks

Columns = dict[str, list[Any]]

DEEPEST = 400
"""Levels of a row: what Python can still write as JSON, far from its limit of calls."""
_NAMED = 5
_WANTED = 'write one object a line, or one list of objects: [{"text": "...", "label": "..."}, ...]'


def parse_json_lines(text: str) -> Columns:
    """The columns of objects that stand one a line; keys that a row lacks are None.

    A file that is one list is read as such. Raises FormatError that lists the lines that are not
    objects.
    """
    (columns,) = columns_of_lines(text.split("\n"), most=len(text) + 1)
    return columns


def columns_of_lines(lines: Iterable[str], most: int | None = None) -> Iterator[Columns]:
    """The same in chunks of `most` letters.

    The lines end at "\\n" alone, since JSON's strings may hold other line separators as they are.
    """
    filled = (numbered for numbered in enumerate(lines, start=1) if numbered[1].strip())
    first = next(filled, (1, ""))
    if first[1].lstrip().startswith("["):
        yield _columns(_rows(_whole("".join(line for _, line in chain([first], filled)))))
        return
    rows = _objects(chain([first] if first[1] else [], filled))
    for chunk in in_chunks(rows, lambda row: row[0], most):
        yield _columns([row for _, row in chunk])


def _objects(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The length of each line and its object, up to the first line that has none."""
    problems: list[str] = []
    count = 0
    for number, line in lines:
        try:
            row = _object(_parsed(line))
        except (ValueError, RecursionError) as error:
            count += 1
            if count <= _NAMED:
                problems.append(f"line {number}: {error}")
            continue
        if not count:
            yield len(line), row
    if count:
        more = [f"and {count - _NAMED} more lines"] if count > _NAMED else []
        raise FormatError("some lines are not JSON objects", [*problems, *more])


def parse_json(text: str) -> Columns:
    """The columns of a list of objects, in any of the forms above."""
    try:
        content = _parsed(text)
    except (ValueError, RecursionError):
        return parse_json_lines(text)
    return _columns(_rows(content))


def _whole(text: str) -> Any:
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as error:
        raise FormatError("it begins as a list, and is not JSON", [str(error)]) from error


def _parsed(text: str) -> Any:
    value = json.loads(text, object_pairs_hook=_unique)
    if is_deeper(value, DEEPEST):
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{json.dumps(value)[:40]} is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs more than once")
    return content


def _rows(content: Any) -> list[dict[str, Any]]:
    """The objects of a file that is one JSON value; raises FormatError if it has none."""
    rows = _rows_of_object(content) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise FormatError("it is not a list of objects", [_WANTED])
    wrong = [i for i, row in enumerate(rows, start=1) if not isinstance(row, dict)]
    if wrong:
        found = f"entry {wrong[0]} is {json.dumps(rows[wrong[0] - 1])[:40]}"
        raise FormatError("it is not a list of objects", [found, _WANTED])
    return rows


def _rows_of_object(content: dict[str, Any]) -> Any:
    values = list(content.values())
    if isinstance(content.get("data"), list):
        return content["data"]
    if values and all(isinstance(value, dict) for value in values):
        return _rows_of_objects(content)
    lists = values and all(isinstance(value, list) for value in values)
    if lists and all(is_scalar(cell) for value in values for cell in value):
        return _rows_of_lists(content)
    return [content]


def _rows_of_objects(content: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of {column: {row: cell}}, or of {row: {column: cell}}, by which keys are numbers."""
    inner = list(dict.fromkeys(key for value in content.values() for key in value))
    columns_outside, rows_outside = _are_numbers(inner), _are_numbers(content)
    if columns_outside == rows_outside:
        raise FormatError(
            "it is one object of objects, and whether those are rows or columns cannot be told",
            [_WANTED],
        )
    if rows_outside:
        return list(content.values())
    return [{name: column.get(row) for name, column in content.items()} for row in inner]


def _rows_of_lists(content: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    lengths = {name: len(column) for name, column in content.items()}
    if len(set(lengths.values())) > 1:
        found = [f"{name}: {length}" for name, length in lengths.items()]
        raise FormatError("its lists differ in length", found)
    cells = zip(*content.values(), strict=True)
    return [dict(zip(content, row, strict=True)) for row in cells]


def _are_numbers(keys: Iterable[str]) -> bool:
    return all(key.isascii() and key.isdigit() for key in keys)


def _columns(rows: list[dict[str, Any]]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {_column_name(name): _one_type([row.get(name) for row in rows]) for name in names}


def _column_name(key: str) -> str:
    """The key with half surrogate pairs escaped, which no column's name can hold."""
    return key.encode("utf-8", "backslashreplace").decode()


def _one_type(values: list[Any]) -> list[Any]:
    """Numbers and texts in one column become texts, since a column has one type; NaN is nothing."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 or kinds == {int, float} or not all(map(is_scalar, values)):
        return values
    return [None if value is None or value != value else str(value) for value in values]
