"""Problems of a table: missing columns, and cells that a task cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from lorakit.errors import ConfigError, suggest
from lorakit.tables.cells import is_blank, text_problem
from lorakit.text import rows_text

_NAMED = 10


def missing_columns(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A sentence for each missing column, with the nearest names."""
    return [
        f"there is no column {name!r}{suggest(name, names)}; the columns are {', '.join(names)}"
        for name in dict.fromkeys(wanted)
        if name not in names
    ]


class AtRows(NamedTuple):
    """What is wrong, and in which rows; in none where it says so itself."""

    problem: str
    rows: Sequence[int] = ()

    def sentence(self, numbers: Sequence[int] | None = None) -> str:
        """With the rows, under the `numbers` that they have in a larger table."""
        rows = self.rows if numbers is None else [numbers[row] for row in self.rows]
        return f"{self.problem}: {rows_text(rows)}" if rows else self.problem


def bad_cells(
    values: Sequence[Any], column: str, problem: Callable[[Any], str | None]
) -> list[AtRows]:
    """One for each kind of problem in a column, with the rows that have it."""
    problems = map(problem, values)
    return by_problem(found and f"column {column!r} {found}" for found in problems)


def by_problem(problems: Iterable[str | None]) -> list[AtRows]:
    """One for each kind of problem, given row by row, with the rows that have it."""
    rows: dict[str, list[int]] = {}
    for row, problem in enumerate(problems):
        if problem is not None:
            rows.setdefault(problem, []).append(row)
    found = [AtRows(problem, at) for problem, at in rows.items()]
    more = [AtRows(f"and {len(found) - _NAMED} more such values")] if len(found) > _NAMED else []
    return found[:_NAMED] + more


def label_problem(value: Any, target: Callable[[Any], Any]) -> str | None:
    """What is wrong with a label: that it is blank or no text, or what `target` raises."""
    if is_blank(value):
        return "is empty"
    if isinstance(value, str) and (problem := text_problem(value)):
        return problem
    try:
        target(value)
    except ConfigError as error:
        return error.headline
    return None
