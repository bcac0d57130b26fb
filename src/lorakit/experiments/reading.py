"""How a table is to be read, in words that all forms for readers share."""

from __future__ import annotations

from lorakit.experiments.statistics import SPREAD_TITLES, TEST
from lorakit.experiments.table import Table
from lorakit.text import plural


def summary(table: Table) -> str | None:
    """What a cell is of its runs; None if no cell has more than one."""
    counts = {len(cell.values) for row in table.rows for cell in row.cells if cell.values}
    if not counts or max(counts) < 2:
        return None
    least, most = min(counts), max(counts)
    seeds = plural(most, "seed") if least == most else f"{least} to {most} seeds"
    return f"{table.statistic} ± {SPREAD_TITLES[table.spread]} over {seeds}"


def failures(table: Table) -> list[tuple[str, list[str]]]:
    """Why runs failed, each reason once, with the names of all that it is true of."""
    names: dict[str, list[str]] = {}
    for failure in table.failures:
        names.setdefault(failure.error, []).append(failure.name)
    return list(names.items())


def noise(table: Table) -> str | None:
    """What the mark of noise says; None if nothing was tested."""
    if all(cell.p_value is None for row in table.rows for cell in row.cells):
        return None
    against = table.reference or "the best"
    return f"differs from {against} by what noise could explain ({TEST})"
