"""A table for other programs: a line for each cell, in the units of the results."""

from __future__ import annotations

import csv
import io

from lorakit.experiments.table import Table

_HEAD = (
    "base", "method", "task", "metric", "runs", "center", "spread", "best", "p_value", "noise",
    "missing", "failed", "published", "published_spread", "source",
    "trainable_parameters", "head_parameters", "adapter_bytes", "seconds", "peak_memory_bytes",
)  # fmt: skip


def render(table: Table) -> str:
    """The lines, with a head; what is not known is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEAD)
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            figure = cell.published
            published = (figure.value, figure.spread, figure.source) if figure else (None,) * 3
            writer.writerow(
                (
                    row.base, row.name, column.task, column.metric, len(cell.values), cell.center,
                    cell.spread, cell.is_best, cell.p_value, cell.is_noise, cell.missing,
                    cell.failed, *published, row.trainable_parameters, row.head_parameters,
                    row.adapter_bytes, row.seconds, row.peak_memory_bytes,
                )
            )  # fmt: skip
    return file.getvalue().rstrip("\n")
