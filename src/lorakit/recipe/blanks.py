"""Rows with an empty cell that the task needs: named, or left out and counted.

A cell is empty if it is nothing, null, NaN or white space. A task says which it needs: of an Alpaca
row the instruction and the output, but not the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lorakit.errors import ConfigError
from lorakit.recipe.data_config import DataConfig
from lorakit.tasks.columns import make_task
from lorakit.tasks.spec import Columns
from lorakit.tasks.table_checks import missing_columns
from lorakit.text import plural, rows_text

_ROWS = 1000


def without_blanks(
    data: DataConfig, table: Any, name: str, log: Callable[[str], None] = lambda text: None
) -> Any:
    """The table without rows that have an empty cell which the task needs; logs how many they are.

    Raises ConfigError that names them if data.blank is refuse, or if nothing is left.
    """
    blank = _blank_cells(data, table)
    rows = set().union(*blank.values())
    if not rows:
        return table
    if data.blank == "refuse" or len(rows) == len(table):
        raise ConfigError(
            f"{name} has empty cells that the task {data.task} needs. Fill them, or leave their "
            f"rows out with data.blank: drop ({len(rows):,} of {plural(len(table), 'row')}):",
            [f"column {column!r} is empty: {rows_text(at)}" for column, at in blank.items()],
        )
    counts = ", ".join(f"{column} in {len(at):,}" for column, at in blank.items())
    log(
        f"data.blank leaves out {len(rows):,} of the {plural(len(table), 'row')} of {name}, which "
        f"have empty cells: {counts}"
    )
    return table.select([row for row in range(len(table)) if row not in rows])


def _blank_cells(data: DataConfig, table: Any) -> dict[str, list[int]]:
    """The rows of empty cells, by column."""
    columns = Columns(data.task, tuple(data.text or ()), data.label)
    if missing_columns(table.column_names, [*(columns.text or ()), *filter(None, [data.label])]):
        return {}  # what is missing is said with the nearest names where the table is checked
    task = make_task(table, columns, max_length=1)
    found: dict[str, list[int]] = {}
    for begin, rows in enumerate(table.select_columns(task.known_columns).iter(_ROWS)):
        for column, at in task.blank_cells(rows).items():
            found.setdefault(column, []).extend(begin * _ROWS + row for row in at)
    return {column: at for column, at in found.items() if at}
