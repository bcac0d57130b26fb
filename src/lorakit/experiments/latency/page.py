"""What a study of latency has measured, as a page: a map of slow-downs for each candidate.

As figure 5 of the paper (LoRA, arXiv 2106.09685, appendix B), of batch and length.
"""

from __future__ import annotations

from lorakit.experiments.latency.table import BASE, Latency, LatencyTable, Spread
from lorakit.pages import Cell, Column, Figure, Page, Section, Table, number
from lorakit.pages.figures import Panel, heat_map

_PER_CENT = 100


def latency_page(table: LatencyTable, provenance: tuple[tuple[str, str], ...]) -> Page:
    """The page; `provenance` says what made it."""
    return Page(
        title=f"Latency of {table.model_class}",
        lead=f"{table.conditions}.",
        sections=[
            Section("Slow-down over the base", [_figure(table)]),
            Section("Times", [_times(table)]),
        ],
        provenance=provenance,
    )


def _figure(table: LatencyTable) -> Figure:
    slowdowns = [_percent(one) for one in table.cells if one.candidate != BASE]
    scale = (min(0.0, *slowdowns), max(slowdowns))
    names = [name for name in table.parameters if name != BASE]
    return Figure(
        caption="Per cent by which a forward takes longer than the base's in the same round, the "
        "median over the rounds. The base again is noise.",
        alt="For each candidate a map with the batch to the right and the length downwards: "
        + "; ".join(_in_words(name, table) for name in names),
        panels=[_panel(name, table, scale) for name in names],
    )


def _panel(name: str, table: LatencyTable, scale: tuple[float, float]) -> Panel:
    found = {(one.length, one.batch): one for one in table.cells if one.candidate == name}
    lengths, batches = (sorted({size[side] for size in found}) for side in (0, 1))
    return heat_map(
        [[_percent(found[length, batch]) for batch in batches] for length in lengths],
        ("length", list(map(str, lengths))),
        ("batch", list(map(str, batches))),
        scale,
        name,
    )


def _in_words(name: str, table: LatencyTable) -> str:
    own = [_percent(one) for one in table.cells if one.candidate == name]
    return f"{name} from {min(own):.1f} to {max(own):.1f} per cent"


def _percent(one: Latency) -> float:
    return (one.slowdown.median - 1) * _PER_CENT


def _times(table: LatencyTable) -> Table:
    return Table(
        caption="Every candidate with every batch.",
        columns=[
            *("candidate", "batch", "length", "parameters"),
            *_heads("milliseconds"),
            *_heads("over the base"),
            "rounds",
        ],
        rows=[
            [
                one.candidate,
                *(number(size, ",") for size in (one.batch, one.length)),
                number(table.parameters[one.candidate], ","),
                *_cells(one.milliseconds),
                *_cells(one.slowdown),
                number(one.rounds, ","),
            ]
            for one in table.cells
        ],
    )


def _heads(group: str) -> list[Column]:
    return [Column(name, group) for name in ("median", "lower quartile", "upper quartile")]


def _cells(spread: Spread) -> list[Cell]:
    return [number(value, ".3g") for value in (spread.median, spread.low, spread.high)]
