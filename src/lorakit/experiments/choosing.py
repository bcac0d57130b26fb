"""Which candidate's values a cell's runs take, or why there are none to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorakit.experiments.entry import Entry
from lorakit.experiments.headlines import headlines
from lorakit.experiments.plan import Plan, PlannedRun, Variant, settings_text
from lorakit.experiments.state import error_of, result_of
from lorakit.experiments.sweep import Settings
from lorakit.experiments.table import Column
from lorakit.text import first_of, plural


def choice(plan: Plan, variant: Variant, task: Entry) -> Settings | None:
    """The candidate with the best headline; None while one has neither a result nor an error.

    Of equal ones it is the first. None as well if none has a value: see `nothing_to_choose`.
    """
    candidates = plan.candidates(variant, task)
    if not candidates:
        return plan.only_choice(variant)
    if any(map(_is_awaited, candidates)):
        return None
    scores = {place: _score(task, run) for place, run in enumerate(candidates)}
    known = {place: score for place, score in scores.items() if score is not None}
    return candidates[max(known, key=known.__getitem__)].chosen if known else None


def nothing_to_choose(plan: Plan, variant: Variant, task: Entry) -> str | None:
    """Why no values can be chosen; None if there are, or a candidate is still to be made."""
    candidates = plan.candidates(variant, task)
    if any(_is_awaited(run) or _score(task, run) is not None for run in candidates):
        return None
    reasons: dict[str, list[str]] = {}
    for run in candidates:
        reasons.setdefault(_why_none(task, run), []).append(settings_text(run.chosen))
    said = "; ".join(f"{reason} ({first_of(names)})" for reason, names in reasons.items())
    count = plural(len(candidates), "candidate")
    return f"none of {count} has a value to choose by: {said}" if said else None


def headline(task: Entry, result: Mapping[str, Any]) -> tuple[Column, float] | None:
    """The first metric that the table shows of a task, which values are chosen by."""
    wanted = tuple(task.own.get("metrics", ()))
    for name, value in headlines(result["task"], result["metrics"], wanted).items():
        return Column(task.name, name), value
    return None


def _is_awaited(run: PlannedRun) -> bool:
    return result_of(run) is None and error_of(run) is None


def _score(task: Entry, run: PlannedRun) -> float | None:
    """The headline as a number of which more is better."""
    result = result_of(run)
    found = None if result is None else headline(task, result)
    if found is None or found[1] != found[1]:
        return None
    column, value = found
    return -value if column.shown.lower_is_better else value


def _why_none(task: Entry, run: PlannedRun) -> str:
    if (result := result_of(run)) is None:
        return "it failed"
    found = headline(task, result)
    if found is None:
        wanted = ", ".join(task.own["metrics"])
        return f"its result has no {wanted}, but {', '.join(result['metrics'])}"
    return f"{found[0].metric} is {found[1]}"
