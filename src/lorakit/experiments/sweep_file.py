"""Sweeps as YAML files: shipped ones by name, a user's by path, and the copy beside the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError
from lorakit.experiments.plan import Plan, plan_of
from lorakit.experiments.published import left_figures, published_figures
from lorakit.experiments.recipes import recipe_problems
from lorakit.experiments.requirements import Requirements
from lorakit.experiments.sweep import Sweep, mistakes
from lorakit.foreign_files import local_path
from lorakit.recipe.validation import build, unknown_names
from lorakit.recipe.yaml_file import load_mapping, with_settings_of
from lorakit.recipe_files import sweep_files

COPY = "sweep.yaml"
"""The sweep as it was run, in its directory."""


def sweep_file(name: str) -> Path | None:
    """The file of a sweep: a path, the name of one that is shipped, or a directory with a copy."""
    path = local_path(name)
    if path.is_dir():
        return path / COPY if (path / COPY).is_file() else None
    return path if path.is_file() else sweep_files().get(name)


def load_sweep(file: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping in a file, with settings such as `seeds=[0, 1]` applied.

    `base=MODEL` stands in place of all of several bases, without their settings: its runs start
    from the sweep's `recipe`. Published figures of rows and tasks that settings take away are left
    out.
    """
    mapping = load_mapping(file, "sweep")
    changed = with_settings_of("sweep", mapping, settings)
    if changed.get("base") != mapping.get("base"):
        changed.pop("bases", None)
    if isinstance(figures := changed.get("published"), list):
        (rows, tasks), (left_rows, left_tasks) = _names(mapping), _names(changed)
        changed["published"] = left_figures(figures, rows - left_rows, tasks - left_tasks)
    return changed


def _names(mapping: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The rows and the tasks of what can be read of a sweep, whatever its bases are."""
    plan, _ = _read({**mapping, "base": "any", "bases": {}})
    return {variant.name for variant in plan.variants}, {task.name for task in plan.entries.tasks}


def planned(mapping: Mapping[str, Any]) -> Plan:
    """The plan of a sweep, to look at; raises ConfigError that lists every mistake in its form."""
    return _required(*_read(mapping))


def runnable(mapping: Mapping[str, Any]) -> Plan:
    """The plan of a sweep, to run.

    Raises ConfigError that lists every mistake in its form, its runs and its published figures.
    """
    plan, problems = _read(mapping)
    problems += recipe_problems(plan, Requirements(plan).problems)
    published_figures(plan, problems)
    return _required(plan, problems)


def _read(mapping: Mapping[str, Any]) -> tuple[Plan, list[str]]:
    """The plan of what can be read, and what is wrong with the rest."""
    problems: list[str] = []
    plan = plan_of(_sweep(mapping, problems), problems)
    names = [name for variant in plan.variants for name in variant.names]
    reference = plan.sweep.reference
    if names and reference is not None and reference not in names:
        rows = ", ".join(dict.fromkeys(names))
        problems.append(f"reference is {reference!r}; it must be one of {rows}")
    return plan, problems


_EMPTY: Mapping[str, Any] = {"output": "", "tasks": (), "methods": ()}
"""What has to be given, where it is not or is wrong."""


def _sweep(mapping: Mapping[str, Any], problems: list[str]) -> Sweep:
    """The sweep, in which fields that are wrong are as if they were not given."""
    names = [field.name for field in dataclasses.fields(Sweep)]
    problems += unknown_names(mapping, names, "")
    problems += [f"{name} is missing" for name in _EMPTY if name not in mapping]
    sound: dict[str, Any] = {}
    for name in (name for name in names if name in mapping):
        before = len(problems)
        found = build(Sweep, {**_EMPTY, name: mapping[name]}, "", problems)
        if len(problems) == before:
            sound[name] = getattr(found, name)
    wrong = mistakes(Sweep(**{**_EMPTY, **sound}))
    if any(name in mapping and name not in sound for name in ("base", "bases")):
        wrong.pop("base", None)  # it is not missing
    problems += [said for name, said in wrong.items() if name in sound or name == "base"]
    return Sweep(**{**_EMPTY, **{name: v for name, v in sound.items() if name not in wrong}})


def _required(plan: Plan, problems: list[str]) -> Plan:
    if problems:
        raise ConfigError("This sweep cannot be run:", problems)
    return plan
