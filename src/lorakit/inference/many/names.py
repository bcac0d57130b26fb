"""Which adapter each row of a table has: a column names them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from lorakit.errors import SUGGESTIONS, ConfigError, suggest
from lorakit.tables.cells import is_blank, label_name
from lorakit.tables.chunks import Cells
from lorakit.tasks.table_checks import missing_columns
from lorakit.text import plural, rows_text

Names = Sequence[str | None]
"""The adapter of each row; None: the base alone."""


def names_by_row(table: Any, column: str, known: Collection[str], data: str) -> Names:
    """The adapter that `column` names for each row; None where the cell is empty.

    Raises ConfigError if there is no such column, or that lists the names that are not `known`, by
    their rows. `data` is what messages call the table.
    """
    if missing := missing_columns(table.column_names, [column]):
        raise ConfigError(
            f"{data} does not say which adapter a row has; name the column with --adapter-column:",
            missing,
        )
    by_label = {label_name(name): name for name in known}
    labels = (None if is_blank(cell) else label_name(cell) for cell in Cells(table, column))
    names = [label and by_label.get(label, label) for label in labels]
    require_names(names, len(table), known, f"The column {column!r} of {data}")
    return names


def require_names(names: Names, rows: int, known: Collection[str | None], what: str) -> None:
    """Raise ConfigError if there is not a known name, or None, for each row; `what` names them."""
    if len(names) != rows:
        raise ConfigError(f"{what} names {plural(len(names), 'adapter')} for {rows} rows.")
    unknown = {n: at for n, at in rows_by_name(names).items() if n is not None and n not in known}
    if unknown:
        there = [name for name in known if name is not None]
        raise ConfigError(
            f"{what} names adapters that are not among those given, {', '.join(there)}:",
            [
                f"{name!r}{suggest(name, there) if n < SUGGESTIONS else ''}: {rows_text(at)}"
                for n, (name, at) in enumerate(unknown.items())
            ],
        )


def rows_by_name(names: Names) -> dict[str | None, list[int]]:
    """The rows of each adapter.

    >>> rows_by_name(["a", None, "a"])
    {'a': [0, 2], None: [1]}
    """
    rows: dict[str | None, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows
