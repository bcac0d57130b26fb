"""A table for a terminal: aligned columns, `*` behind the best, `~` behind what noise explains."""

from __future__ import annotations

from lorakit.experiments.renderers import layout
from lorakit.experiments.table import Cell, Table
from lorakit.text import table as aligned


def render(table: Table) -> str:
    """The table and its notes."""
    return "\n".join([*aligned(layout.lines(table, _style)), *layout.notes(table, "*")])


def _style(number: str, cell: Cell) -> str:
    return number + "*" * cell.is_best + " ~" * cell.is_noise
