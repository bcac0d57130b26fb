"""The table of a sweep, from what is on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lorakit.experiments.choosing import choice, nothing_to_choose
from lorakit.experiments.entry import Entry
from lorakit.experiments.plan import Plan, Variant, settings_text
from lorakit.experiments.published import published_figures
from lorakit.experiments.state import error_of, result_of
from lorakit.experiments.table import Failure, Table
from lorakit.experiments.tabulation import Measurement, RowName, Style, tabulate


def sweep_table(plan: Plan) -> Table:
    """The runs that are finished, have failed, or are still to be made."""
    sweep, tasks = plan.sweep, plan.entries.tasks
    rows = {row_name(variant): variant for variant in plan.variants}
    reference = sweep.reference or ("lora" if "lora" in sweep.methods else None)
    style = Style(
        statistic=sweep.statistic,
        spread=sweep.spread,
        reference=next((v.name for v in rows.values() if reference in v.names), None),
        metrics={task.name: task.own["metrics"] for task in tasks if "metrics" in task.own},
        published=published_figures(plan, []),
    )
    measurements = [m for variant, task in plan.cells for m in _measurements(plan, variant, task)]
    table = tabulate(measurements, list(rows), [task.name for task in tasks], style)
    return replace(
        table,
        failures=(*_failed_candidates(plan), *table.failures),
        notes=(*table.notes, *_choices(plan)),
    )


def row_name(variant: Variant) -> RowName:
    """What the variant's row is called."""
    return RowName(variant.base.name, variant.name)


def _measurements(plan: Plan, variant: Variant, task: Entry) -> Iterator[Measurement]:
    chosen = choice(plan, variant, task)
    unchosen = nothing_to_choose(plan, variant, task) if chosen is None else None
    for run in plan.runs(variant, task, {} if chosen is None else chosen):
        result = None if chosen is None else result_of(run)
        error = unchosen if chosen is None or result is not None else error_of(run)
        source = run.name if chosen is None else str(run.directory)
        yield Measurement(row_name(variant), task.name, run.seed, result, source, error)


def _failed_candidates(plan: Plan) -> Iterator[Failure]:
    """Those that are not among the seeds of any cell."""
    for variant, task in plan.cells:
        for run in plan.candidates(variant, task):
            if result_of(run) is None and (error := error_of(run)) is not None:
                yield Failure(run.name, error)


def _choices(plan: Plan) -> Iterator[str]:
    """What was chosen, a sentence for each row."""
    for variant in plan.variants:
        found = {
            task.name: settings_text(chosen)
            for task in plan.entries.tasks
            if plan.candidates(variant, task)
            and (chosen := choice(plan, variant, task)) is not None
        }
        if found:
            said = "; ".join(f"{text} for {task}" for task, text in found.items())
            base = f" on {variant.base.name}" if len(plan.entries.bases) > 1 else ""
            yield f"chosen on the validation set, {variant.name}{base}: {said}"
