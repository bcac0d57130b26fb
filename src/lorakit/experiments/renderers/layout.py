"""What the forms for readers have in common: titles, and the parts of a cell, as text."""

from __future__ import annotations

from collections.abc import Callable

from lorakit.experiments.reading import failures, noise, summary
from lorakit.experiments.table import Cell, Column, Row, Table
from lorakit.text import first_of, size_text

Style = Callable[[str, Cell], str]
"""(center and spread, cell) -> the same, marked as the form marks the best and what is noise."""

_FACTS: dict[str, Callable[[Row], str | None]] = {
    "trainable parameters": lambda row: _parameters(row),
    "size": lambda row: None if row.adapter_bytes is None else size_text(row.adapter_bytes),
    "seconds": lambda row: None if row.seconds is None else f"{row.seconds:,.0f}",
    "peak memory": lambda row: (
        None if row.peak_memory_bytes is None else size_text(row.peak_memory_bytes)
    ),
    "run": lambda row: ", ".join(row.sources),
}


def lines(table: Table, style: Style, plus_minus: str = "±") -> list[list[str]]:
    """The head and the rows; columns that are empty in all rows are left out."""
    facts = {title: [of(row) or "" for row in table.rows] for title, of in _FACTS.items()}
    if any(len(row.sources) > 1 for row in table.rows):
        del facts["run"]
    facts = {title: cells for title, cells in facts.items() if any(cells)}
    bases = {row.base for row in table.rows if row.base}
    named = [[row.base] if len(bases) > 1 else [] for row in table.rows]
    head = [*(["base"] if len(bases) > 1 else []), "", *map(title, table.columns), *facts]
    rows = [
        [
            *named[place],
            row.name,
            *(
                _cell(cell, column, style, plus_minus)
                for cell, column in zip(row.cells, table.columns, strict=True)
            ),
            *(cells[place] for cells in facts.values()),
        ]
        for place, row in enumerate(table.rows)
    ]
    return [head, *rows]


def title(column: Column) -> str:
    """The task and the metric."""
    return f"{column.task} {column.shown.title}".rstrip()


def notes(table: Table, best: str) -> list[str]:
    """What stands below: how to read it, where figures are from, and what has failed.

    `best` is how the form marks the best.
    """
    found = [f"{said}; {best} is the best of its column"] if (said := summary(table)) else []
    found += [f"~ {said}"] if (said := noise(table)) else []
    if any(row.head_parameters for row in table.rows):
        found.append("trainable parameters: the method's + those of heads")
    found += table.notes
    found += [f"[ ] published: {source}" for source in table.sources]
    return found + [f"failed: {first_of(names)}: {error}" for error, names in failures(table)]


def _cell(cell: Cell, column: Column, style: Style, plus_minus: str) -> str:
    def number(center: float, spread: float | None) -> str:
        return column.shown.with_spread(center, spread, plus_minus)

    parts = [] if cell.center is None else [style(number(cell.center, cell.spread), cell)]
    if cell.failed:
        parts.append(f"({cell.failed} failed)" if parts else "failed")
    if cell.missing:
        parts.append(f"({cell.missing} to run)" if parts else "to run")
    if cell.published is not None:
        parts.append(f"[{number(cell.published.value, cell.published.spread)}]")
    return " ".join(parts)


def _parameters(row: Row) -> str | None:
    if row.trainable_parameters is None:
        return None
    head = f" + {row.head_parameters:,}" if row.head_parameters else ""
    return f"{row.trainable_parameters:,}{head}"
