"""Problems of a table: missing columns, and cells that a task cannot use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lorakit.errors import ConfigError, suggest
from lorakit.tables.cells import is_blank, is_scalar
from lorakit.text import plural, rows_text

_NAMED = 10


def missing_columns(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A sentence for each missing column, with the nearest names."""
    return [
        f"there is no column {name!r}{suggest(name, names)}; the columns are {', '.join(names)}"
        for name in dict.fromkeys(wanted)
        if name not in names
    ]


def bad_texts(
    values: Sequence[Any], column: str, problem: Callable[[str, Any], str | None]
) -> list[str]:
    """One sentence for each kind of problem, with the rows that have it."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if (found := problem(column, value)) is not None:
            rows.setdefault(found, []).append(row)
    return [f"column {column!r} {found}: {rows_text(at)}" for found, at in rows.items()]


def bad_labels(values: Sequence[Any], column: str, target: Callable[[Any], Any]) -> list[str]:
    """The blank ones by their rows, the wrong ones by their values."""
    blank = [row for row, value in enumerate(values) if is_blank(value)]
    problems = [f"column {column!r} is empty: {rows_text(blank)}"] if blank else []
    counts = Counter(value if is_scalar(value) else repr(value) for value in values)
    wrong = []
    for value, count in counts.items():
        try:
            if not is_blank(value):
                target(value)
        except ConfigError as error:
            wrong.append(f"column {column!r} {error.headline}: {plural(count, 'row')}")
    more = [f"and {len(wrong) - _NAMED} more such values"] if len(wrong) > _NAMED else []
    return problems + wrong[:_NAMED] + more
