"""The page of a sweep: that of its table, with what varied, what was chosen, and its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lorakit import pages
from lorakit.experiments import figures
from lorakit.experiments.choosing import choice, headline
from lorakit.experiments.entry import Entry
from lorakit.experiments.page import page_of
from lorakit.experiments.plan import Plan, PlannedRun, Variant, settings_text
from lorakit.experiments.state import error_of, result_of
from lorakit.experiments.sweep_file import COPY
from lorakit.experiments.sweep_table import row_name
from lorakit.experiments.table import Table
from lorakit.experiments.tabulation import RowName

PAGE = "table.html"
"""The name of the page in a sweep's directory."""


def sweep_page(plan: Plan, table: Table, provenance: Sequence[tuple[str, str]] = ()) -> pages.Page:
    """The page of `plan` with its `table`, and what made it."""
    settings = (plan.output / COPY).read_text("utf-8")
    listing = pages.Listing(f"The sweep as it was run, {COPY}.", settings)
    more = [*_varied(plan, table), *_chosen(plan), pages.Section("Settings", [listing])]
    return page_of(replace(table, notes=()), more, provenance)


def _varied(plan: Plan, table: Table) -> Iterator[pages.Section]:
    """Scores over the first setting of the grid whose values are numbers."""
    variants = plan.variants
    for setting in dict.fromkeys(name for variant in variants for name in variant.varied):
        values = {v for variant in variants if _is_number(v := variant.varied.get(setting))}
        if len(values) > 1:
            several = len(plan.entries.bases) > 1
            known = {row_name(v): _place(v, setting, several) for v in variants}
            places = [known.get(RowName(row.base, row.name), ("", None)) for row in table.rows]
            yield pages.Section(
                "What varies", [figures.scores_over_setting(table, setting, places)]
            )
            return


def _place(variant: Variant, setting: str, with_base: bool) -> tuple[str, float | None]:
    """The line that a row belongs to, and its place there; those without the setting have none."""
    others = {name: value for name, value in variant.varied.items() if name != setting}
    base = variant.base.name if with_base else ""
    value = variant.varied.get(setting)
    name = ", ".join(filter(None, [variant.method.name, settings_text(others), base]))
    return name, value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
