"""The pictures of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lorakit.experiments.headlines import shown_metric
from lorakit.experiments.statistics import SPREAD_TITLES
from lorakit.experiments.table import Cell, Column, Row, Table
from lorakit.pages import Figure
from lorakit.pages.figures import Axis, Panel, Point, Series, bars, dots, lines, scatter

_COSTS = {
    "Training time": ("seconds", "seconds", 1),
    "Peak memory": ("peak_memory_bytes", "GB", 1e-9),
    "Saved file": ("adapter_bytes", "MB", 1e-6),
}
"""By title: the field of a row, the unit, and what the field is multiplied by."""
_LOG_FROM = 8
"""A setting whose greatest value is this many times the least stands on a logarithmic axis."""


def scores(table: Table, rows: Sequence[Row]) -> Figure:
    """A panel for each column: a dot for each method, with its spread and its single runs."""
    has_published = any(cell.published for row in rows for cell in row.cells)
    what = f"{table.statistic} and {SPREAD_TITLES[table.spread]}; small dots are single runs"
    return Figure(
        f"Scores: {what}{'; squares are published figures' if has_published else ''}.",
        alt="The scores of the table, task by task, method below method.",
        panels=[
            _score_panel(column, rows, at, has_published) for at, column in enumerate(table.columns)
        ],
    )


def _score_panel(column: Column, rows: Sequence[Row], at: int, has_published: bool) -> Panel:
    ours = [_point(row.name, row.cells[at], column) for row in rows]
    published = [
        _with_spread(row.name, figure.value, figure.spread, column)
        for row in rows
        if (figure := row.cells[at].published) is not None
    ]
    series = [Series("these runs", ours), Series("published", published, hollow=True)]
    return dots(series if has_published else series[:1], Axis(column.shown.title), column.task)


def scores_over_parameters(table: Table, rows: Sequence[Row]) -> Figure:
    """A panel for each column: a mark for each method at its number of trainable parameters."""
    places = [(row.name, row.trainable_parameters) for row in rows]
    x = Axis("trainable parameters", log=True)
    return Figure(
        "Scores over the number of trainable parameters.",
        alt="The scores of the table over the trainable parameters of each method.",
        panels=[
            scatter(_series(rows, places, at, column), x, Axis(column.shown.title), column.task)
            for at, column in enumerate(table.columns)
        ],
    )


def scores_over_setting(
    table: Table, setting: str, places: Sequence[tuple[str, float | None]]
) -> Figure:
    """A panel for each column: scores over a setting's value, a line for each name.

    `places` are the name and the value of each row.
    """
    x = _axis(setting, [value for _, value in places if value is not None])
    return Figure(
        f"Scores over {setting}.",
        alt=f"The scores of the tables over {setting}.",
        panels=[
            lines(_series(table.rows, places, at, column), x, Axis(column.shown.title), column.task)
            for at, column in enumerate(table.columns)
        ],
    )


def scores_over_rows(table: Table, rows: Mapping[str, int]) -> Figure:
    """A panel for each metric: scores over the rows to train on, a line for each method.

    `rows` is how many each task has.
    """
    counts = {at: rows[c.task] for at, c in enumerate(table.columns) if c.task in rows}
    metrics = dict.fromkeys(table.columns[at].metric for at in counts)
    several = len({row.base for row in table.rows} - {""}) > 1

    def of(row: Row, metric: str) -> Series:
        own = sorted((n, at) for at, n in counts.items() if table.columns[at].metric == metric)
        name = f"{row.name}, {row.base}" if several else row.name
        return Series(name, [_point(n, row.cells[at], table.columns[at]) for n, at in own])

    return Figure(
        "Scores over the number of rows to train on.",
        alt="The scores of the tables over the number of rows to train on.",
        panels=[
            lines(
                [of(row, metric) for row in table.rows if row.base],
                _axis("training rows", list(counts.values())),
                Axis(shown_metric(metric).title),
            )
            for metric in metrics
        ],
    )


def _axis(title: str, values: Sequence[float]) -> Axis:
    return Axis(title, log=min(values) > 0 and max(values) >= _LOG_FROM * min(values))


def _series(
    rows: Sequence[Row], places: Sequence[tuple[str, float | None]], at: int, column: Column
) -> list[Series]:
    """A series for each name, with a point for each row that has a place."""
    points: dict[str, list[Point]] = {name: [] for name, _ in places}
    for row, (name, place) in zip(rows, places, strict=True):
        if place is not None:
            points[name].append(_point(place, row.cells[at], column))
    return [Series(name, found) for name, found in points.items()]


def costs(rows: Sequence[Row]) -> Figure | None:
    """Time of training, peak memory and file of each method, a colour for each base."""
    panels = []
    for title, (field, unit, factor) in _COSTS.items():
        points: dict[str, list[Point]] = {row.base: [] for row in rows}
        for row in rows:
            if (value := getattr(row, field)) is not None:
                points[row.base].append(Point(row.name, value * factor))
        if any(points.values()):
            series = [Series(base, found) for base, found in points.items()]
            panels.append(bars(series, Axis(unit), title, "{:,.3g}".format))
    if not panels:
        return None
    return Figure(
        "Mean time of training, and the largest peak memory and saved tensors of a run.",
        alt="Bars of the costs that the tables have as numbers.",
        panels=panels,
    )


def _point(at: float | str, cell: Cell, column: Column) -> Point:
    """The cell's score in the table's unit; nan, which is not drawn, where it has none."""
    samples = [value * column.shown.scale for value in cell.values]
    center = math.nan if cell.center is None else cell.center
    return _with_spread(at, center, cell.spread, column, samples if len(samples) > 1 else ())


def _with_spread(
    at: float | str,
    value: float,
    spread: float | None,
    column: Column,
    samples: Sequence[float] = (),
) -> Point:
    scale, around = column.shown.scale, spread or 0.0
    return Point(at, value * scale, (value - around) * scale, (value + around) * scale, samples)
