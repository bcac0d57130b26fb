r"""A table in LaTeX, with booktabs: the best in \textbf, \sim behind what noise explains."""

from __future__ import annotations

from lorakit.experiments.renderers import layout
from lorakit.experiments.table import Cell, Table

_MARKS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
_BEST, _NOISE, _PLUS_MINUS = "\x01", "\x02", "\x03"
"""Stand for commands until everything else is escaped."""


def render(table: Table) -> str:
    """The environment tabular, and the notes as comments above it."""
    head, *rows = layout.lines(table, _style, _PLUS_MINUS)
    body = [" & ".join(map(_cell, cells)) + r" \\" for cells in (head, *rows)]
    return "\n".join(
        [
            *(f"% {line}" for note in layout.notes(table, "bold") for line in note.splitlines()),
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _style(number: str, cell: Cell) -> str:
    return _BEST * cell.is_best + number + _BEST * cell.is_best + _NOISE * cell.is_noise


def _cell(text: str) -> str:
    before, *best = text.split(_BEST)
    escaped = _escaped(before) + (
        rf"\textbf{{{_escaped(best[0])}}}" + _escaped(best[1]) if best else ""
    )
    return escaped.replace(_NOISE, r"$^{\sim}$").replace(_PLUS_MINUS, r"$\pm$")


def _escaped(text: str) -> str:
    return "".join(_MARKS.get(letter, letter) for letter in text)
