"""Plans as a page: what lives at the peak, over the step, by module, and on each device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lorakit.pages import Cell, Note, Page, Section, Table, number
from lorakit.planner.device_plan import DevicePlan
from lorakit.planner.fit import Fit
from lorakit.planner.module_kinds import module_kinds
from lorakit.planner.pictures import curves, peaks
from lorakit.planner.plan import Plan
from lorakit.planner.table import PlanTable
from lorakit.text import size_text

_KINDS = 15
"""How many kinds of modules are shown of each method."""


def plan_page(
    table: PlanTable, provenance: tuple[tuple[str, str], ...], more: Sequence[Section] = ()
) -> Page:
    """The page, with `more` sections at its end; `provenance` says what made it."""
    plans = table.plans
    first = next(iter(plans.values()))
    found = "; ".join(f"{name} {size_text(plan.peak_bytes)}" for name, plan in plans.items())
    return Page(
        title=f"The memory of a step of {first.model}",
        lead=f"{first.total_parameters:,} parameters, a step of {table.step}. At the "
        f"peak: {found}.",
        sections=[
            Section(
                "At the peak",
                [
                    peaks({name: plan.bytes_by for name, plan in plans.items()}, "on one device"),
                    _methods(plans),
                ],
            ),
            Section("Over the step", [curves({name: plan.memory for name, plan in plans.items()})]),
            Section("By module", [_modules(name, plan) for name, plan in plans.items()]),
            *_devices(table.devices),
            *more,
        ],
        notes=[
            Note(
                "Planned by one real step on tensors that have shapes and no memory: every storage "
                "is followed from its birth to its death. The kernels are those of a CPU."
            ),
            *_formulas(first),
        ],
        provenance=provenance,
    )


def fit_section(fit: Fit) -> Section:
    """What makes the step fit, the cheapest first."""
    rows: list[list[Cell | str]] = [
        [
            ", ".join(answer.changes) or "as it is",
            _megabytes(answer.peak_bytes),
            number(answer.time, ".2f"),
            answer.effect,
        ]
        for answer in fit.answers
    ]
    caption = f"What fits into {size_text(fit.memory)}: peak in MB; time as a share of the step's."
    return Section("What fits", [Table(caption, ["what", "peak", "time", "effect"], rows)])


def _methods(plans: Mapping[str, Plan]) -> Table:
    there = _held(plan.bytes_by for plan in plans.values())
    return Table(
        caption="MB at the peak, by category.",
        columns=[
            *("method", "peak", "in the"),
            *there,
            *("trains", "checkpoint", "MFLOP/token", "s/step (estimate)"),
        ],
        rows=[
            [
                name,
                _megabytes(plan.peak_bytes),
                plan.memory.peak.phase,
                *(_megabytes(plan.bytes_by[category]) for category in there),
                number(plan.trainable_parameters, ","),
                _megabytes(plan.checkpoint_bytes),
                number(plan.flops_per_token / 1e6, ",.4g"),
                number(plan.seconds_per_step, ",.2g"),
            ]
            for name, plan in plans.items()
        ],
    )


def _modules(name: str, plan: Plan) -> Table:
    kinds = module_kinds(plan.memory.modules)
    rest, there = kinds[_KINDS:], _held([plan.bytes_by])
    return Table(
        caption=f"MB at the peak by module, {name}: weights, gradients and state of those that "
        "have them, activations of those in whose forward they were born."
        + (f" {len(rest)} more kinds hold {size_text(sum(k.total for k in rest))}." * bool(rest)),
        columns=["module", "modules", "sum", *there],
        rows=[
            [
                kind.name,
                number(kind.count, ","),
                _megabytes(kind.total),
                *(_megabytes(kind.bytes_by.get(category, 0)) for category in there),
            ]
            for kind in kinds[:_KINDS]
        ],
    )


def _devices(found: Mapping[str, DevicePlan]) -> list[Section]:
    if not found:
        return []
    first = next(iter(found.values()))
    bytes_by = {name: device.bytes_by for name, device in found.items()}
    there = _held(bytes_by.values())
    return [
        Section(
            "On each device",
            [
                peaks(bytes_by, f"on each of {first.devices} devices with {first.parallel}"),
                Table(
                    caption=f"MB. {first.headline} the fullest one.",
                    columns=["method", "peak", "in the", *there],
                    rows=[
                        [
                            name,
                            _megabytes(device.peak_bytes),
                            device.peak.phase,
                            *(_megabytes(device.bytes_by[category]) for category in there),
                        ]
                        for name, device in found.items()
                    ],
                ),
            ],
        )
    ]


def _formulas(plan: Plan) -> list[Note]:
    formulas = plan.device.formulas if plan.device else ()
    return [Note(f"By formula: {one.text} ({one.source}).") for one in formulas]


def _held(peaks: Iterable[Mapping[str, int]]) -> list[str]:
    """The categories of which there is anything at one of these peaks."""
    return list(dict.fromkeys(name for peak in peaks for name, size in peak.items() if size))


def _megabytes(size: int) -> Cell:
    return number(size / 1e6, ",.2f")
