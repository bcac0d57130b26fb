"""Sweeps as YAML files: shipped ones by name, a user's by path, and the copy beside the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError
from lorakit.experiments.fits import Fits
from lorakit.experiments.plan import Plan, plan_of
from lorakit.experiments.published import published_figures
from lorakit.experiments.recipes import recipe_problems
from lorakit.experiments.sweep import Sweep
from lorakit.foreign_files import local_path
from lorakit.recipe.validation import build, unknown_names
from lorakit.recipe.yaml_file import load_mapping, with_settings
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
    from the sweep's `recipe`.
    """
    mapping = load_mapping(file, "sweep")
    changed = with_settings(mapping, settings)
    if changed.get("base") != mapping.get("base"):
        changed.pop("bases", None)
    return changed


def planned(mapping: Mapping[str, Any]) -> Plan:
    """The plan of a sweep, to look at; raises ConfigError that lists every mistake in its form."""
    return _required(*_read(mapping))


def runnable(mapping: Mapping[str, Any]) -> Plan:
    """The plan of a sweep, to run.

    Raises ConfigError that lists every mistake in its form, its runs and its published figures.
    """
    plan, problems = _read(mapping)
    if plan is not None:
        problems += recipe_problems(plan, Fits().require)
        published_figures(plan, problems)
    return _required(plan, problems)


def _read(mapping: Mapping[str, Any]) -> tuple[Plan | None, list[str]]:
    """The plan of what can be read, and what is wrong with the rest."""
    names = [field.name for field in dataclasses.fields(Sweep)]
    problems = unknown_names(mapping, names, "")
    known = {name: mapping[name] for name in names if name in mapping}
    sweep: Sweep | None = build(Sweep, known, "", problems)
    if sweep is None:
        return None, problems
    plan = plan_of(sweep, problems)
    names = [name for variant in plan.variants for name in variant.names]
    if sweep.reference is not None and sweep.reference not in names:
        rows = ", ".join(dict.fromkeys(names))
        problems.append(f"reference is {sweep.reference!r}; it must be one of {rows}")
    return plan, problems


def _required(plan: Plan | None, problems: list[str]) -> Plan:
    if problems or plan is None:
        raise ConfigError("This sweep cannot be run:", problems)
    return plan
