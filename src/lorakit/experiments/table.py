"""The table of a comparison as a value, which `renderers` write as text, Markdown, LaTeX, ...

Rows are methods, columns a metric of a task each; a cell summarises the runs of its seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.experiments.headlines import ShownMetric, shown_metric


@dataclass(frozen=True)
class Column:
    """One metric of one task."""

    task: str
    metric: str
    """Empty where nothing has been measured yet."""

    @property
    def shown(self) -> ShownMetric:
        """How its values are written."""
        return shown_metric(self.metric)


AVERAGE = Column("average", "glue")
"""That of GLUE's eight tasks."""


@dataclass(frozen=True)
class Published:
    """A figure from elsewhere, in the unit of the results."""

    value: float
    spread: float | None
    source: str


@dataclass(frozen=True)
class Cell:
    """The runs of a row on a task."""

    seeds: tuple[int, ...] = ()
    """Of the runs that have the metric."""
    values: tuple[float, ...] = ()
    """Of the metric, seed by seed."""
    center: float | None = None
    """Their mean or median; NaN where one of them is not finite."""
    spread: float | None = None
    """None: there is but one value, or one is not finite."""
    is_best: bool = False
    """Whether no row of the same base has a better center."""
    p_value: float | None = None
    """Of the difference from the row that differences are tested against; None: it is that row, or
    there is no test of so few runs or of values that are not finite."""
    is_noise: bool = False
    """Whether noise could explain that difference."""
    missing: int = 0
    """Runs that have not been made yet."""
    failed: int = 0
    """Runs that have failed."""
    published: Published | None = None


@dataclass(frozen=True)
class Row:
    """One method on one base."""

    name: str
    base: str
    cells: tuple[Cell, ...]
    """One for each column."""
    trainable_parameters: int | None = None
    """Without heads; the largest number of its runs."""
    adapter_bytes: int | None = None
    """Likewise of the saved tensors."""
    seconds: float | None = None
    """The mean time of training of a run."""
    peak_memory_bytes: int | None = None
    """The largest of its runs."""
    sources: tuple[str, ...] = ()
    """Where its runs are."""
    head_parameters: int | None = None
    """The largest number of its runs, which differ in the heads of their tasks."""


@dataclass(frozen=True)
class Failure:
    """A run that has failed."""

    name: str
    error: str


@dataclass(frozen=True)
class Table:
    """A comparison."""

    columns: tuple[Column, ...]
    """Metrics of tasks, in order."""
    rows: tuple[Row, ...]
    """Methods, in order; those of a base together."""
    statistic: str = "mean"
    """What a center is of its values: mean or median."""
    spread: str = "std"
    """What a spread is: std, or ci95 for half of the mean's 95% interval."""
    reference: str | None = None
    """The row that differences are tested against; None: the best of the column."""
    failures: tuple[Failure, ...] = ()
    """The runs that have failed."""
    notes: tuple[str, ...] = ()
    """Sentences about how to read it."""

    @property
    def sources(self) -> list[str]:
        """Where its published figures are from, each once."""
        cells = [cell for row in self.rows for cell in row.cells]
        return list(dict.fromkeys(cell.published.source for cell in cells if cell.published))
