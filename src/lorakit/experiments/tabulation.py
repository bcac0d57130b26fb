"""From results of runs to a table: summarised over seeds, the best marked, differences tested."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lorakit.experiments.headlines import headlines
from lorakit.experiments.statistics import LEVEL, center, p_value, spread
from lorakit.experiments.sweep import Spread, Statistic
from lorakit.experiments.table import AVERAGE, Cell, Column, Failure, Published, Row, Table
from lorakit.metrics.glue import AVERAGED, glue_headline


@dataclass(frozen=True)
class RowName:
    """A row by its base and its name."""

    base: str
    name: str


@dataclass(frozen=True)
class Measurement:
    """One run, as far as it has got."""

    row: RowName
    task: str
    """The column's."""
    seed: int
    result: Mapping[str, Any] | None
    """The content of its result.json; None: there is none."""
    source: str
    error: str | None = None
    """Why it failed, if it did."""


@dataclass(frozen=True)
class Style:
    """How runs are summarised."""

    statistic: Statistic = "mean"
    spread: Spread = "std"
    reference: str | None = None
    """The row to test against; None: the best of a column."""
    metrics: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Those of a task, where it does not show its usual ones."""
    published: Mapping[tuple[RowName, str, str], Published] = field(default_factory=dict)
    """By row, task and metric."""


def tabulate(
    measurements: Iterable[Measurement],
    rows: Sequence[RowName],
    tasks: Sequence[str],
    style: Style,
) -> Table:
    """The table with these rows and columns; in which order the runs come does not matter."""
    runs = sorted(measurements, key=lambda run: (run.seed, run.source))
    columns = _columns(runs, tasks, style)
    of = {name: [run for run in runs if run.row == name] for name in rows}
    found = [_row(name, of[name], columns, style) for name in rows]
    if set(AVERAGED) <= set(tasks):
        columns = [*columns, AVERAGE]
        found = [_with_average(row, of[RowName(row.base, row.name)], style) for row in found]
    for base in dict.fromkeys(row.base for row in found):
        own = [place for place, row in enumerate(found) if row.base == base]
        for place, row in zip(own, _marked([found[i] for i in own], columns, style), strict=True):
            found[place] = row
    failures = [Failure(_name(run), run.error) for run in runs if run.error is not None]
    return Table(
        tuple(columns), (*_baselines(runs, columns), *found),
        style.statistic, style.spread, style.reference, tuple(failures),
    )  # fmt: skip


def _baselines(runs: Sequence[Measurement], columns: Sequence[Column]) -> list[Row]:
    """What answers that look at no text score, a row of no base for each kind of answer."""
    values: dict[str, dict[Column, float]] = {}
    for run in runs:
        found = (run.result or {}).get("baseline")
        if found and (column := Column(run.task, found["metric"])) in columns:
            values.setdefault(found["answer"], {})[column] = found["value"]
    return [
        Row(answer, "", tuple(Cell(center=of.get(column)) for column in columns))
        for answer, of in values.items()
    ]


def _columns(runs: Sequence[Measurement], tasks: Sequence[str], style: Style) -> list[Column]:
    columns = []
    for task in tasks:
        names: dict[str, None] = {}
        for run in runs:
            if run.task == task and run.result is not None:
                names |= dict.fromkeys(_headlines(run, style))
        for _, of, metric in style.published:
            names |= {metric: None} if of == task else {}
        columns += [Column(task, name) for name in names or style.metrics.get(task) or [""]]
    return columns


def _headlines(run: Measurement, style: Style) -> dict[str, float]:
    assert run.result is not None
    wanted = tuple(style.metrics.get(run.task, ()))
    return headlines(run.result["task"], run.result["metrics"], wanted)


def _row(
    name: RowName, runs: Sequence[Measurement], columns: Sequence[Column], style: Style
) -> Row:
    results = [run.result for run in runs if run.result is not None]

    def of(field: str, summarise: Callable[[Sequence[Any]], Any]) -> Any:
        values = [r[field] for r in results if r.get(field) is not None]
        return summarise(values) if values else None

    return Row(
        name=name.name,
        base=name.base,
        cells=tuple(_cell(name, runs, column, style) for column in columns),
        trainable_parameters=max(map(_without_head, filter(_is_counted, results)), default=None),
        head_parameters=of("head_parameters", max),
        adapter_bytes=of("adapter_bytes", max),
        seconds=of("seconds", statistics.fmean),
        peak_memory_bytes=of("peak_memory_bytes", max),
        sources=tuple(run.source for run in runs if run.result is not None),
    )


def _is_counted(result: Mapping[str, Any]) -> bool:
    return result.get("trainable_parameters") is not None


def _without_head(result: Mapping[str, Any]) -> int:
    """What was trained, heads apart, as the paper counts; all of it in a file that cannot tell."""
    return int(result["trainable_parameters"]) - int(result.get("head_parameters") or 0)


def _cell(name: RowName, runs: Sequence[Measurement], column: Column, style: Style) -> Cell:
    own = [run for run in runs if run.task == column.task]
    values = {
        (run.seed, run.source): value
        for run in own
        if run.result is not None
        for metric, value in _headlines(run, style).items()
        if metric == column.metric
    }
    numbers = tuple(values.values())
    return Cell(
        seeds=tuple(seed for seed, _ in values),
        values=numbers,
        center=center(style.statistic, numbers) if numbers else None,
        spread=spread(style.spread, numbers),
        missing=sum(run.result is None and run.error is None for run in own),
        failed=sum(run.error is not None for run in own),
        published=style.published.get((name, column.task, column.metric)),
    )


def _with_average(row: Row, runs: Sequence[Measurement], style: Style) -> Row:
    """Further the average of GLUE's eight tasks, if the row has all of them.

    Of a task it takes the headline, whichever metrics the table shows, and the runs of the column
    that is called as it is.
    """
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.result is not None and run.task in AVERAGED and run.task == run.result["task"]:
            value = glue_headline(run.task, run.result["metrics"])[1]
            found.setdefault(run.task, []).append(value)
    centers = [center(style.statistic, values) for values in found.values()]
    cell = Cell(
        center=statistics.fmean(centers) if len(centers) == len(AVERAGED) else None,
        published=style.published.get((RowName(row.base, row.name), AVERAGE.task, AVERAGE.metric)),
    )
    return replace(row, cells=(*row.cells, cell))


def _marked(rows: Sequence[Row], columns: Sequence[Column], style: Style) -> list[Row]:
    """The rows of one base, with the best of each column and what noise could explain."""
    cells = [
        _marked_column(rows, [row.cells[place] for row in rows], column, style)
        for place, column in enumerate(columns)
    ]
    return [
        replace(row, cells=tuple(column[place] for column in cells))
        for place, row in enumerate(rows)
    ]


def _marked_column(
    rows: Sequence[Row], cells: Sequence[Cell], column: Column, style: Style
) -> list[Cell]:
    sign = -1 if column.shown.lower_is_better else 1
    known = [c.center * sign for c in cells if c.center is not None and math.isfinite(c.center)]
    best = max(known, default=None)
    is_best = [cell.center is not None and cell.center * sign == best for cell in cells]
    names = [row.name == style.reference for row in rows] if style.reference else is_best
    reference = next((c for c, named in zip(cells, names, strict=True) if named), None)
    marked = []
    for cell, best_one in zip(cells, is_best, strict=True):
        tested = reference is not None and cell is not reference and cell.values
        p = p_value(cell.values, reference.values) if tested and reference is not None else None
        marked.append(
            replace(cell, is_best=best_one, p_value=p, is_noise=p is not None and p >= LEVEL)
        )
    return marked


def _name(run: Measurement) -> str:
    return f"{run.row.base}/{run.task}/{run.row.name} seed {run.seed}"
