"""A table and the columns that a recipe names become a checked task; open columns are guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lorakit.errors import ConfigError
from lorakit.tables.chunks import Cells
from lorakit.tasks.base import Task
from lorakit.tasks.guessing import guess_labelled
from lorakit.tasks.registry import TASKS, task_problem
from lorakit.tasks.spec import ONE_OR_TWO, Columns, TaskSpec
from lorakit.tasks.table_checks import missing_columns
from lorakit.text import repeated


def resolve(table: Any, given: Columns, name: str = "the table") -> Columns:
    """`given` with its None parts guessed from the table, and the table checked against it.

    Raises ConfigError as `guess` does, or that lists the bad cells by their rows.
    """
    found = guess(table, given, name)
    make_task(table, found, max_length=1).check(table, name)
    return found


def guess(table: Any, given: Columns, name: str = "the table") -> Columns:
    """`given` with its None parts guessed from the table.

    Raises ConfigError that lists missing columns with the nearest names, or what could not be
    guessed.
    """
    given = known_columns(given)
    names: list[str] = list(table.column_names)
    problems = missing_columns(
        names, [*(given.text or ()), *([given.label] if given.label else [])]
    )
    if problem := task_problem(given.task):
        problems.append(problem)
    if problems:
        raise ConfigError(f"These settings do not fit the columns of {name}:", problems)
    found = _guess(table, given)
    if problems := _open_parts(names, found) or _contradictions(table, given, found):
        raise ConfigError(f"The task and columns of {name} cannot be determined:", problems)
    return found


def known_columns(given: Columns) -> Columns:
    """`given` with the columns that a task has of its own; raises ConfigError for others."""
    spec = _spec(given)
    return given if spec is None else spec.known_columns(given)


def make_task(table: Any, columns: Columns, max_length: int) -> Task:
    """The task for a training table, with the labels that occur there.

    Raises ConfigError if there is only one label.
    """
    return TASKS[str(columns.task)].make(table, columns, max_length)


def _spec(columns: Columns) -> TaskSpec | None:
    return TASKS.get(columns.task) if columns.task is not None else None


def _guess(table: Any, given: Columns) -> Columns:
    """`given` with what can be guessed from the table; the rest stays None."""
    spec = _spec(given)
    recognised = _recognised(table, given) if given.text is None else None
    if recognised is not None:
        return recognised
    if spec is not None and not spec.task_class.needs_label:
        return given
    return guess_labelled(table, given, ONE_OR_TWO if spec is None else spec.texts)


def _recognised(table: Any, given: Columns) -> Columns | None:
    """The columns of the task that is given, or of the first that knows this table's."""
    for spec in reversed(TASKS.values()):
        if spec.recognise is not None and given.task in (None, spec.name):
            found = spec.recognise(table, given)
            if found is not None:
                why = "by the names of the columns" if given.task is None else ""
                return replace(found, task=spec.name, why=why)
    return None


def _open_parts(names: list[str], found: Columns) -> list[str]:
    """What could not be guessed and has to be set."""
    is_are = "column is" if len(names) == 1 else "columns are"
    present = f"the {is_are} {', '.join(map(repr, names))}"
    separators = [mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]]
    if separators:
        return [f"{present}; cells seem to be separated by {separators[0]!r}, not by ','"]
    spec = _spec(found)
    needed = {
        "task": found.task is None,
        "text": not found.text,
        "label": found.label is None and (spec is None or spec.task_class.needs_label),
    }
    open_parts = [f"data.{part}" for part, is_open in needed.items() if is_open]
    return [f"{present}; set {' and '.join(open_parts)}"] if open_parts else []


def _contradictions(table: Any, given: Columns, found: Columns) -> list[str]:
    """Contradictions: too many text columns, a column used twice, a header that looks like data."""
    text, label = found.text or (), found.label
    read = TASKS[str(found.task)].texts
    problems = []
    if len(text) < read.least or (read.most is not None and len(text) > read.most):
        problems.append(f"data.text names {len(text)} columns; {found.task} reads {read.meant}")
    used = [*text, *([label] if label is not None else [])]
    problems += [
        f"column {name!r} is used more than once in data.text and data.label"
        for name in repeated(used)
    ]
    if given.label is None and label is not None and label in map(str, Cells(table, label)):
        problems.append(
            f"the header seems to be a row of data, since the name {label!r} also occurs as a "
            "value of its column; add a header line, or set data.label"
        )
    return problems
