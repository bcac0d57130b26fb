"""Published figures that a sweep names, to stand beside those of its runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lorakit.errors import suggest
from lorakit.experiments.headlines import shown_metric
from lorakit.experiments.plan import Plan
from lorakit.experiments.table import AVERAGE, Published
from lorakit.experiments.tabulation import RowName
from lorakit.metrics.glue import glue_metric
from lorakit.recipe.validation import unknown_names

_FIELDS = ("method", "base", "source", "values")
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_FIGURE = re.compile(rf"^({_NUMBER})(?:\s*(?:±|\+-)\s*({_NUMBER}))?$")

Figures = dict[tuple[RowName, str, str], Published]
"""By row, task and metric."""


def published_figures(plan: Plan, problems: list[str]) -> Figures:
    """The figures of a sweep; what cannot be read is appended to `problems`.

    A figure of a base that is not the sweep's is in no row: the sweep runs on another model.
    """
    found: Figures = {}
    for number, entry in enumerate(plan.sweep.published, start=1):
        place = f"published[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("values"), Mapping):
            problems.append(f"{place} must be a mapping of {', '.join(_FIELDS)}")
            continue
        problems += unknown_names(entry, _FIELDS, f"{place}.")
        problems += _name_problems(plan, place, entry)
        row = RowName(_base(plan, entry), str(entry.get("method")))
        for task, metric, figure in _figures(entry["values"]):
            match = _FIGURE.match(str(figure).strip())
            if match is None:
                problems.append(f'{place} has {figure!r} for {task}; write 87.5 or "87.5 ± 0.3"')
                continue
            scale = shown_metric(metric).scale
            value, spread = (None if n is None else float(n) / scale for n in match.groups())
            assert value is not None
            source = str(entry.get("source"))
            found[row, task, metric] = Published(value, spread, source)
    return found


def left_figures(
    figures: Sequence[Any], rows: Collection[str], tasks: Collection[str]
) -> list[Any]:
    """The entries of a sweep's file without the figures of these rows and of these tasks."""
    found: list[Any] = []
    for entry in figures:
        values = entry.get("values") if isinstance(entry, Mapping) else None
        if not values or not isinstance(values, Mapping):  # which is named with other mistakes
            found.append(entry)
        elif str(entry.get("method")) not in rows:
            left = {task: of for task, of in values.items() if str(task) not in tasks}
            found += [{**entry, "values": left}] if left else []
    return found


def _base(plan: Plan, entry: Mapping[str, Any]) -> str:
    names = [base.name for base in plan.entries.bases]
    return str(entry.get("base", next(iter(names), None)))


def _name_problems(plan: Plan, place: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(entry.get("source"), str):
        yield f"{place}.source is missing; say where the figures are from"
    names = [variant.name for variant in plan.variants]
    if (name := str(entry.get("method"))) not in names:
        yield f"{place}.method is {name!r}{suggest(name, names)}; it must be a row of the table"
    tasks = [*(task.name for task in plan.entries.tasks), AVERAGE.task]
    for task in map(str, entry["values"]):
        if task not in tasks:
            yield f"{place} has a figure for {task}{suggest(task, tasks)}; name a task"
    if "base" not in entry and len(plan.entries.bases) > 1:
        yield f"{place}.base is missing; name one of the bases"


def _figures(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(task, metric, figure)"""
    for task, of in ((str(task), of) for task, of in values.items()):
        if isinstance(of, Mapping):
            yield from ((task, str(metric), figure) for metric, figure in of.items())
        else:
            yield task, AVERAGE.metric if task == AVERAGE.task else glue_metric(task), of
