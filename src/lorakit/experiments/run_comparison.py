"""Finished runs side by side, wherever they were made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from lorakit.errors import ConfigError, FormatError, suggest
from lorakit.experiments.plan import settings_text
from lorakit.experiments.table import Table
from lorakit.experiments.tabulation import Measurement, RowName, Style, tabulate
from lorakit.foreign_files import local_path
from lorakit.methods import METHODS
from lorakit.recipe.schema import flat_settings, from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.recipe_files import sweep_files
from lorakit.runs.directory import RECIPE, RESULT, result_content
from lorakit.tasks.glue.benchmark import GLUE
from lorakit.text import plural

_READ = ("task", "method", "metrics", "examples")
"""What a result from elsewhere needs to be compared."""
_SAME = ("output", "base", "revision", "method", "training.seed", "lora.use_dora")
"""Settings that make no other row, or say the same as another one."""
_KINDS = {"loss.kind": "plain", "lora.variant": "lora"}
"""Settings that a row is always named by, but for these values."""


@dataclass(frozen=True)
class _Run:
    result: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Of its recipe, by dotted names; empty where there is none."""
    source: str

    @property
    def group(self) -> tuple[str, ...]:
        """Runs of one group are told apart by the settings in which they differ."""
        return (self.base, self.result["method"], self.result["task"])

    @property
    def base(self) -> str:
        return expanduser(self.result.get("base") or "base not recorded")


def compare(runs: Sequence[str], references: Sequence[str] = ()) -> Table:
    """The results of `runs` in one table, with result files from elsewhere as further rows.

    `runs` are run directories, or directories of them; runs that differ only in their seed share a
    row, and those that do not even in that are told apart by their places. `references` are files
    as a run's result.json.
    Raises FormatError for a path without a finished run, ConfigError if there is no run.
    """
    require_existing(runs)
    directories = [path for name in runs for path in _directories(local_path(name))]
    if not directories:
        raise ConfigError(
            "There is no run to compare; pass run directories, or directories of them."
        )
    found = [_read(path / RESULT, str(path)) for path in directories]
    found += [_read(Path(name), f"recorded in {name}") for name in references]
    names = _names(found)
    count = len(directories)
    names = _unlike([*_apart(names[:count], found[:count]), *names[count:]], count)
    measurements = [
        Measurement(name, run.result["task"], run.result.get("seed", 0), run.result, run.source)
        for run, name in zip(found, names, strict=True)
    ]
    table = tabulate(measurements, list(dict.fromkeys(names)), _tasks(found), Style())
    bases = ["", *dict.fromkeys(name.base for name in names)]
    rows = sorted(
        table.rows, key=lambda row: (bases.index(row.base), row.trainable_parameters or 0)
    )
    return replace(
        table,
        rows=tuple(rows),
        notes=(*table.notes, *_notes(found, table)),
    )


def require_existing(runs: Sequence[str]) -> None:
    """Raise FormatError for a path that is not there, which may be the name of a sweep misspelt."""
    for path in map(local_path, runs):
        if not path.exists():
            shipped = sweep_files()
            raise FormatError(
                f"{path} is neither a directory nor a sweep{suggest(str(path), shipped)}; the "
                f"shipped sweeps are {', '.join(shipped) or 'none'}."
            )


def _apart(names: Sequence[RowName], runs: Sequence[_Run]) -> list[RowName]:
    """The names, with the place of each run that is another one's repetition: of the same seed."""
    keys = [
        (name, run.result["task"], run.result.get("seed", 0))
        for name, run in zip(names, runs, strict=True)
    ]
    return [
        replace(name, name=f"{name.name}, {run.source}") if keys.count(key) > 1 else name
        for name, run, key in zip(names, runs, keys, strict=True)
    ]


def _unlike(names: Sequence[RowName], runs: int) -> list[RowName]:
    """The names of runs and references, of which no reference shares a row with a run."""
    taken = {*names[:runs]}
    return [
        *names[:runs],
        *(
            replace(name, name=f"{name.name}, recorded") if name in taken else name
            for name in names[runs:]
        ),
    ]


def _directories(path: Path) -> list[Path]:
    if (path / RESULT).is_file():
        return [path]
    inside = sorted(file.parent for file in path.glob(f"*/{RESULT}"))
    if not inside:
        raise FormatError(
            f"{path} holds no finished run: there is no {RESULT} in it or in a directory below."
        )
    return inside


def _read(file: Path, source: str) -> _Run:
    result = result_content(file, _READ)
    recipe_file = file.with_name(RECIPE)
    settings: Mapping[str, Any] = {"loss.kind": result.get("loss", _KINDS["loss.kind"])}
    if file.name == RESULT and recipe_file.is_file():
        recipe = from_mapping(load_recipe(recipe_file))
        settings = flat_settings(recipe, [recipe.method])
    return _Run(result, settings, source)


def _names(runs: Sequence[_Run]) -> list[RowName]:
    """The row of each run: its method, with what tells it from others of the same base and task."""
    groups: dict[tuple[str, ...], list[_Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    return [RowName(run.base, _name(run, groups[run.group])) for run in runs]


def _name(run: _Run, group: Sequence[_Run]) -> str:
    method = run.result["method"]
    title = METHODS[method].title if method in METHODS else method
    told = {
        name: value
        for name, value in run.settings.items()
        if name not in _SAME
        and value is not None
        and value is not False
        and value != _KINDS.get(name)
        and (_differs(name, group) or _is_telling(name, value, method))
    }
    return ", ".join(filter(None, [title, settings_text(told)]))


def _differs(name: str, group: Sequence[_Run]) -> bool:
    known = [run.settings[name] for run in group if name in run.settings]
    return any(value != known[0] for value in known)


def _is_telling(name: str, value: Any, method: str) -> bool:
    """Whether it is said of every run: a kind, or a switch that is off by default."""
    section, _, leaf = name.partition(".")
    if section != method or value is not True:
        return name in _KINDS
    return not getattr(METHODS[method].default_config(), leaf)


def _tasks(runs: Iterable[_Run]) -> list[str]:
    """GLUE's in its order, then the others as they come."""
    tasks = dict.fromkeys(run.result["task"] for run in runs)
    return [*(task for task in GLUE if task in tasks), *(t for t in tasks if t not in GLUE)]


def _notes(runs: Sequence[_Run], table: Table) -> list[str]:
    """How far the accuracy of a set of this size is from that of another one, at least."""
    first = {run.result["task"]: run for run in reversed(runs)}
    notes = []
    for place, column in enumerate(table.columns):
        if column.metric != "accuracy":
            continue
        centers = [row.cells[place].center for row in table.rows]
        known = [c for c in centers if c is not None and math.isfinite(c)]
        best = max(known, default=math.nan)
        run = first[column.task]
        rows = run.result["examples"]["test"]
        if rows and 0 <= best <= 1:
            error = column.shown.text((best * (1 - best) / rows) ** 0.5)
            kind = run.settings.get("data.measured_on", "test")
            said = f"{plural(rows, f'{kind} row')}, the standard error is {error} or more"
            notes.append(f"{column.task}: {said}")
    return notes
