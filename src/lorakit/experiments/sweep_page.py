"""The page of a sweep: that of its table, with what varied, what was chosen, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorakit import pages
from lorakit.experiments.choosing import choice, headline
from lorakit.experiments.entry import Entry
from lorakit.experiments.page import page_of
from lorakit.experiments.plan import Plan, PlannedRun, Variant, settings_text
from lorakit.experiments.state import error_of, result_of
from lorakit.experiments.sweep_file import COPY
from lorakit.experiments.table import Table
from lorakit.experiments.variation import variations

PAGE = "table.html"
"""The name of the page in a sweep's directory."""


def sweep_page(plan: Plan, table: Table, provenance: Sequence[tuple[str, str]] = ()) -> pages.Page:
    """The page of `plan` with its `table`, and what made it."""
    settings = (plan.output / COPY).read_text("utf-8")
    listing = pages.Listing(f"The sweep as it was run, {COPY}.", settings)
    pictures = list(variations(plan, table))
    more = [pages.Section("What varies", pictures)] if pictures else []
    more += [*_chosen(plan), pages.Section("Settings", [listing])]
    return page_of(replace(table, notes=()), more, provenance)


def _chosen(plan: Plan) -> Iterator[pages.Section]:
    rows = [row for variant, task in plan.cells for row in _tried(plan, variant, task)]
    if rows:
        table = pages.Table(
            "Values that were tried with the first seed, measured on a validation set.",
            ["method", "base", "task", "tried", "metric", "score"],
            rows,
            [("bold", "chosen")],
        )
        yield pages.Section("What was chosen", [table])


def _tried(plan: Plan, variant: Variant, task: Entry) -> Iterator[Sequence[pages.Cell | str]]:
    chosen = choice(plan, variant, task)
    for run in plan.candidates(variant, task):
        tried = pages.Cell(settings_text(run.chosen), best=run.chosen == chosen)
        yield [variant.name, variant.base.name, task.name, tried, *_score(task, run)]


def _score(task: Entry, run: PlannedRun) -> tuple[str, pages.Cell]:
    """The metric and its value, or why there is none."""
    if (result := result_of(run)) is None:
        return "", pages.Cell("to run" if error_of(run) is None else "failed")
    if (found := headline(task, result)) is None:
        return "", pages.number(None)
    column, value = found
    return column.shown.title, pages.Cell(column.shown.text(value), value)
