"""A comparison as a page: the table as a paper has it, its pictures, and every run behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorakit import pages
from lorakit.experiments import figures
from lorakit.experiments.reading import failures, noise, summary
from lorakit.experiments.table import AVERAGE, Cell, Column, Row, Table
from lorakit.text import first_of, size_text

_NOISE = "~"


def page_of(
    table: Table,
    more: Sequence[pages.Section] = (),
    provenance: Sequence[tuple[str, str]] = (),
) -> pages.Page:
    """The page of `table`, with `more` below its sections and what made it."""
    sections = [_base(table, base, table.sources) for base in _bases(table)]
    sections += [pages.Section("Costs", [costs])] if (costs := figures.costs(table.rows)) else []
    sections += [*more, pages.Section("Runs", [_runs(table)])]
    sections += [pages.Section("Failed runs", [_failures(table)])] if table.failures else []
    tasks = dict.fromkeys(column.task for column in table.columns if column != AVERAGE)
    return pages.Page(
        title=f"Methods compared on {', '.join(tasks)}",
        lead="\n".join(f"{said[:1].upper()}{said[1:]}." for said in _said(table)),
        sections=sections,
        provenance=provenance,
    )


def _said(table: Table) -> Iterator[str]:
    """What stands on top."""
    if (said := summary(table)) is not None:
        yield said
    yield from table.notes


def _bases(table: Table) -> list[str]:
    """Those of the rows; answers that need no model are rows of none."""
    return list(dict.fromkeys(row.base for row in table.rows if row.base))


def _base(table: Table, base: str, sources: Sequence[str]) -> pages.Section:
    """The tables and the pictures of one base, beside answers that need none."""
    rows = [row for row in table.rows if row.base in (base, "")]
    parts: list[pages.Table | pages.Figure] = [_scores(table, rows, sources)]
    if any(cell.p_value is not None for row in rows for cell in row.cells):
        parts.append(_differences(table, rows))
    parts.append(figures.scores(table, rows))
    if len({row.trainable_parameters for row in rows} - {None}) > 1:
        parts.append(figures.scores_over_parameters(table, rows))
    return pages.Section(base, parts)


def _scores(table: Table, rows: Sequence[Row], sources: Sequence[str]) -> pages.Table:
    columns = [pages.Column(column.shown.title, column.task) for column in table.columns]
    return pages.Table(
        "Scores, with what each method trains, heads apart, and costs.",
        ["method", "trainable", *columns, "file", "seconds", "peak memory"],
        [
            [
                row.name,
                pages.number(row.trainable_parameters, ",d"),
                *(
                    _score(cell, column, sources)
                    for cell, column in zip(row.cells, table.columns, strict=True)
                ),
                _size(row.adapter_bytes),
                pages.number(row.seconds, ",.0f"),
                _size(row.peak_memory_bytes),
            ]
            for row in rows
        ],
        list(_legend(table, sources)),
    )


def _score(cell: Cell, column: Column, sources: Sequence[str]) -> pages.Cell:
    """A center with its spread; below it what is missing, and the published figure."""
    below = [f"{cell.failed} failed"] if cell.failed else []
    below += [f"{cell.missing} to run"] if cell.missing else []
    if (published := cell.published) is not None:
        text = column.shown.with_spread(published.value, published.spread)
        below.append(f"[{text}]{_number(published.source, sources)}")
    center = cell.center
    return pages.Cell(
        pages.number(None).text
        if center is None
        else column.shown.with_spread(center, cell.spread),
        center,
        best=cell.is_best,
        marks=_NOISE * cell.is_noise,
        below="\n".join(below),
    )


def _number(source: str, sources: Sequence[str]) -> str:
    """Which of several sources it is."""
    return f" ({sources.index(source) + 1})" if len(sources) > 1 else ""


def _legend(table: Table, sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "bold", "the best of its column"
    yield from _noise_legend(table)
    for source in sources:
        yield f"[ ]{_number(source, sources)}", f"published: {source}"


def _noise_legend(table: Table) -> Iterator[tuple[str, str]]:
    if (said := noise(table)) is not None:
        yield _NOISE, said


def _differences(table: Table, rows: Sequence[Row]) -> pages.Table:
    """What each row has more than the one that it is tested against."""
    tested = [
        at
        for at in range(len(table.columns))
        if any(row.cells[at].p_value is not None for row in rows)
    ]
    heads = [table.columns[at] for at in tested]
    return pages.Table(
        f"Differences from {table.reference or 'the best of a column'}, with their p-values.",
        ["method", *(pages.Column(column.shown.title, column.task) for column in heads)],
        [[row.name, *(_difference(table, rows, row, at) for at in tested)] for row in rows],
        list(_noise_legend(table)),
    )


def _difference(table: Table, rows: Sequence[Row], row: Row, at: int) -> pages.Cell:
    cell, column = row.cells[at], table.columns[at]
    against = next((r.cells[at].center for r in rows if _is_reference(table, r, at)), None)
    if cell.p_value is None or cell.center is None or against is None:
        return pages.number(None)
    difference = cell.center - against
    return pages.Cell(
        ("+" if difference > 0 else "") + column.shown.text(difference).replace("-", "−"),
        difference,
        marks=_NOISE * cell.is_noise,
        below=f"p = {cell.p_value:.2g}",
    )


def _is_reference(table: Table, row: Row, at: int) -> bool:
    return row.cells[at].is_best if table.reference is None else row.name == table.reference


def _size(size: int | None) -> pages.Cell:
    return pages.number(None) if size is None else pages.Cell(size_text(size), size)


def _runs(table: Table) -> pages.Table:
    """Each value that a cell summarises, by its seed."""
    seeds = sorted({seed for row in table.rows for cell in row.cells for seed in cell.seeds})
    return pages.Table(
        "The result of each run.",
        ["method", "base", "task", "metric", *(pages.Column(str(s), "seed") for s in seeds)],
        [
            [
                *(row.name, row.base, column.task, column.shown.title),
                *(_values(cell, column, seed) for seed in seeds),
            ]
            for row in table.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell.values
        ],
    )


def _values(cell: Cell, column: Column, seed: int) -> pages.Cell:
    """Those of a seed: of a sweep there is one."""
    values = [v for of, v in zip(cell.seeds, cell.values, strict=True) if of == seed]
    if not values:
        return pages.number(None)
    return pages.Cell(", ".join(map(column.shown.text, values)), values[0])


def _failures(table: Table) -> pages.Table:
    return pages.Table(
        "Runs without a result, and why.",
        ["run", "error"],
        [
            [
                pages.Cell(first_of(names), details="\n".join(names) if len(names) > 1 else ""),
                pages.Cell(error.partition("\n")[0], details=error),
            ]
            for error, names in failures(table)
        ],
    )
