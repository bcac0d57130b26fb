"""A table in Markdown (GitHub's): the best in bold, `~` behind what noise explains."""

from __future__ import annotations

from lorakit.experiments.renderers import layout
from lorakit.experiments.table import Cell, Table


def render(table: Table) -> str:
    """The table, and its notes as a list."""
    head, *rows = layout.lines(table, _style)
    rule = ["---", *["---:" for _ in head[1:]]]
    lines = [f"| {' | '.join(map(_escaped, cells))} |" for cells in (head, rule, *rows)]
    notes = [f"- {' '.join(note.split())}" for note in layout.notes(table, "bold")]
    return "\n".join([*lines, "", *notes])


def _style(number: str, cell: Cell) -> str:
    return (f"**{number}**" if cell.is_best else number) + " ~" * cell.is_noise


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
