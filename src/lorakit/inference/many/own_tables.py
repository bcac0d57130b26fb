"""The adapters' own test sets: what a run was tested on, or the test set of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.errors import ConfigError
from lorakit.inference.many.mixing import Described
from lorakit.inference.many.problems import noted
from lorakit.inference.session import evaluation_tables
from lorakit.tables.joining import joined
from lorakit.tables.progress import progress_bars

Tables = Mapping[str, Mapping[str, Any]]
"""By the name of the adapter, and of the set: "test", and further ones."""


def own_tables(described: Described) -> dict[str, dict[str, Any]]:
    """The test sets of each adapter: of its recipe, or of its task.

    Raises ConfigError that lists the adapters without one, and those whose files cannot be read or
    whose rows have changed.
    """
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name, one in described.items():
        with noted(problems, name):
            found[name] = evaluation_tables(one, None)
    if problems:
        raise ConfigError("These adapters cannot be measured on test sets of their own:", problems)
    return found


def in_one(tables: Tables, column: str) -> Any:
    """All rows as one table, whose first `column` has the names of the adapters.

    Raises ConfigError if a set has such a column of its own.
    """
    taken = [name for name, own in tables.items() for t in own.values() if column in t.column_names]
    if taken:
        raise ConfigError(
            f"The test sets have a column {column!r} of their own; name that of the adapters "
            f"otherwise, with --adapter-column: {', '.join(dict.fromkeys(taken))}."
        )
    named = {
        f"{name} ({which})": table.add_column(column, [name] * len(table))
        for name, own in tables.items()
        for which, table in own.items()
    }
    with progress_bars(False):
        found = joined(named, may_lack=True)
    return found.select_columns([column, *(c for c in found.column_names if c != column)])
