"""What `lorakit plan` answers: plans side by side, what fits, the claims of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lorakit.cli.count_bar import count_bar
from lorakit.cli.html_page import write_html
from lorakit.cli.output import show
from lorakit.cli.plan_recipe import options_beside

if TYPE_CHECKING:
    from lorakit.planner.planning import Step


def show_plans(steps: Mapping[str, Step], html: Path | None, json: bool) -> None:
    """The plans of these steps side by side."""
    from lorakit.planner.page import plan_page
    from lorakit.planner.table import plan_steps

    with count_bar(" methods", "planned") as made:
        found = plan_steps(steps, made)
    show(found.to_dict() if json else found, json)
    write_html(html, partial(plan_page, found))


def require_fit_alone(methods: Sequence[str], claims: bool) -> None:
    """Raise ConfigError for `--fit` of several methods, or beside `--claims`."""
    from lorakit.errors import require

    several = f"--fit is for one method, and here are {len(methods)}: {', '.join(methods)}"
    two = "--fit and --claims are two questions; ask one at a time"
    require({two: not claims, several: len(methods) == 1})


def show_fit(step: Step, memory: int, html: Path | None, json: bool) -> None:
    """What to change so that a step fits, searched for."""
    from lorakit.planner.fit import fit_step
    from lorakit.planner.page import fit_section, plan_page
    from lorakit.planner.table import PlanTable

    with count_bar(" plans", "what fits") as made:
        found = fit_step(step, memory, made)
    show(found.to_dict() if json else found, json)
    asked = PlanTable({step.settings.method: found.asked})
    write_html(html, partial(plan_page, asked, more=[fit_section(found)]))


def require_no_options_of_claims(context: typer.Context) -> None:
    """Raise ConfigError for options without effect on the claims."""
    from lorakit.errors import require

    taken = ("base", "claims", "batch", "length", "html", "overwrite", "json")
    given = options_beside(context, taken)
    refused = {f"--{name.strip('_').replace('_', '-')} is given": False for name in given}
    require(refused, "--claims has the paper's methods and precision; these have no effect:")


def show_claims(base: str, batch: int, length: int, html: Path | None, json: bool) -> None:
    """The paper's claims beside the plans of its methods; raises ConfigError for another base."""
    from dataclasses import asdict

    from lorakit.errors import ConfigError
    from lorakit.planner import claims
    from lorakit.planner.bases import config_of, model_on_meta
    from lorakit.planner.page import plan_page
    from lorakit.planner.settings import StepSettings
    from lorakit.planner.table import method_steps, plan_steps

    if base != claims.CARD:
        raise ConfigError(f"--claims is given for {base}; the claims are of {claims.CARD}.")
    settings = StepSettings(batch=batch, length=length, dtype="fp16")
    model = model_on_meta(config_of(base), base)
    with count_bar(" methods", "planned") as made:
        plans = plan_steps(method_steps(model, settings, claims.CONFIGS), made)
    found = claims.claims(plans)
    values = {**plans.to_dict(), "claims": [asdict(claim) for claim in found]}
    show(values if json else f"{plans}\n\n{claims.claims_text(found)}", json)
    write_html(html, partial(plan_page, plans, more=[claims.claims_section(found)]))
