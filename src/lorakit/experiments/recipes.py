"""The recipe of each run of a sweep; all of them are checked before any is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorakit.errors import LorakitError
from lorakit.experiments.places import entries_of_run, placed, setting_places
from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.methods.registry import METHODS
from lorakit.recipe.catalogue import recipe_file
from lorakit.recipe.schema import Recipe, from_mapping
from lorakit.recipe.task_settings import TASK, TASKS
from lorakit.recipe.yaml_file import load_recipe, with_settings, with_values
from lorakit.text import first_of


def recipe_of(plan: Plan, run: PlannedRun) -> Recipe:
    """The checked recipe of a run; raises ConfigError that lists every mistake."""
    method = run.variant.method.settings["method"]
    mapping = _with_values(plan, run, _begin(plan, run))
    foreign = METHODS.keys() - {method}  # they would make another recipe of it, and mean nothing
    mapping = {name: value for name, value in mapping.items() if name not in foreign}
    if run.is_candidate:
        mapping = _measured(mapping, plan.sweep.validation)
    return from_mapping(mapping, [*run.variant.method.settings, *run.variant.varied, *run.chosen])


Lacking = Callable[[PlannedRun, Recipe], Sequence[str]]
"""(run, its whole recipe) -> why it cannot be run even so."""


def recipe_problems(plan: Plan, lacking: Lacking = lambda run, recipe: ()) -> list[str]:
    """What is wrong with the recipes of all runs that may be made, and with their places."""
    problems: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    for run in plan.every_run:
        if run.seed != plan.sweep.seeds[0]:  # which has the same recipe but for its seed
            continue
        names.setdefault(str(run.directory).casefold(), []).append(run.name)
        places_of_run = setting_places(plan, run)
        for problem in _problems(plan, run, lacking):
            problems.setdefault(placed(problem, places_of_run), []).append(run.place)
    return [f"{problem} (in {first_of(places)})" for problem, places in problems.items()] + [
        f"{' and '.join(of_one)} would be written to one directory; rename or change one of them"
        for of_one in names.values()
        if len(of_one) > 1
    ]


def _problems(plan: Plan, run: PlannedRun, lacking: Lacking) -> Sequence[str]:
    try:
        return lacking(run, recipe_of(plan, run))
    except LorakitError as error:
        return error.problems or [str(error)]


def _begin(plan: Plan, run: PlannedRun) -> Mapping[str, Any]:
    """The settings of the recipe that the run starts from."""
    named = (run.task.own.get("recipe"), run.variant.base.own.get("recipe"), plan.sweep.recipe)
    name = next((name for name in named if name is not None), None)
    if name is None:
        return {}
    if name not in plan.loaded:
        plan.loaded[name] = load_recipe(recipe_file(name))
    mapping = plan.loaded[name]
    chosen = run.task.settings.get(TASK, run.task.name)
    return with_settings(mapping, [f"{TASK}={chosen}"]) if TASKS in mapping else mapping


def _with_values(plan: Plan, run: PlannedRun, mapping: Mapping[str, Any]) -> dict[str, Any]:
    variant = run.variant
    values = {
        **{n: v for entry in entries_of_run(plan, run) for n, v in entry.settings.items()},
        **variant.varied,
        **run.chosen,
        "training.seed": run.seed,
        "base": variant.base.own["base"],
        "output": str(run.directory),
    }
    values.pop(TASK, None)
    return with_values(mapping, values)


def _measured(mapping: Mapping[str, Any], validation: float) -> dict[str, Any]:
    """The recipe of a candidate: measured on a validation set, and else like the run to be."""
    data, training = mapping.get("data"), mapping.get("training")
    values: dict[str, Any] = {"data.measured_on": "validation"}
    if isinstance(data, Mapping) and data.get("validation") is None:
        values["data.validation"] = validation
        stopping = training.get("early_stopping") if isinstance(training, Mapping) else None
        values["training.early_stopping"] = stopping or 0
    return with_values(mapping, values)
