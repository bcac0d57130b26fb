"""Pictures of scores over what a sweep varies: a setting of its grid, or the rows to train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorakit.experiments import figures
from lorakit.experiments.choosing import choice
from lorakit.experiments.plan import Plan, Variant, settings_text
from lorakit.experiments.state import result_of
from lorakit.experiments.sweep_table import row_name
from lorakit.experiments.table import Table
from lorakit.experiments.tabulation import RowName
from lorakit.pages import Figure

_ROWS = "data.train_rows"


def variations(plan: Plan, table: Table) -> Iterator[Figure]:
    """Scores over the first setting of the grid whose values are numbers, and over rows."""
    variants = plan.variants
    for setting in dict.fromkeys(name for variant in variants for name in variant.varied):
        values = {v for variant in variants if _is_number(v := variant.varied.get(setting))}
        if len(values) > 1:
            several = len(plan.entries.bases) > 1
            known = {row_name(v): _place(v, setting, several) for v in variants}
            places = [known.get(RowName(row.base, row.name), ("", None)) for row in table.rows]
            yield figures.scores_over_setting(table, setting, places)
            break
    rows = {task: count for task, count in _rows(plan).items() if count is not None}
    if len(set(rows.values())) > 1:
        yield figures.scores_over_rows(table, rows)


def _place(variant: Variant, setting: str, with_base: bool) -> tuple[str, float | None]:
    """The line that a row belongs to, and its place there; those without the setting have none."""
    others = {name: value for name, value in variant.varied.items() if name != setting}
    base = variant.base.name if with_base else ""
    value = variant.varied.get(setting)
    name = ", ".join(filter(None, [variant.method.name, settings_text(others), base]))
    return name, value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(plan: Plan) -> Mapping[str, int | None]:
    """How many rows the runs of each task learn from, if tasks differ in nothing else.

    They say so where they are finished; before that it is not known what a share or all rows are.
    """
    tasks = plan.entries.tasks
    others = [
        ({n: v for n, v in task.settings.items() if n != _ROWS}, task.own.get("recipe"))
        for task in tasks
    ]
    if any(other != others[0] for other in others) or not any(_ROWS in t.settings for t in tasks):
        return {}
    return {task.name: None for task in tasks} | {
        task.name: result["examples"].get("train")
        for variant, task in reversed([*plan.cells])
        if (chosen := choice(plan, variant, task)) is not None
        for run in plan.runs(variant, task, chosen)
        if (result := result_of(run)) is not None
    }
