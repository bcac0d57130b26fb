"""A table and what is said about it become a checked task."""

from __future__ import annotations

from typing import Any

from lorakit.errors import ConfigError, suggest
from lorakit.tables.cells import label_names
from lorakit.tasks.base import Task, missing_columns
from lorakit.tasks.chat import Chat
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import Generation
from lorakit.tasks.glue.benchmark import GLUE, LABEL, make_glue_task, require_glue_columns
from lorakit.tasks.guessing import Columns as Columns
from lorakit.tasks.guessing import guess
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.nlg.inputs import INPUT, REFERENCES
from lorakit.tasks.nlg.task import CORPORA
from lorakit.tasks.regression import Regression

TASKS = ("classification", "regression", "multiple_choice", "generation", "chat", *CORPORA)
CHOICES = f"{', '.join(TASKS)}, or GLUE's {', '.join(GLUE)}"
_KINDS: dict[str, type[Task]] = {
    "regression": Regression,
    "multiple_choice": MultipleChoice,
    "generation": Generation,
    "chat": Chat,
}
_TEXTS = {
    "classification": (1, 2, "one column or two"),
    "regression": (1, 2, "one column or two"),
    "multiple_choice": (3, None, "the question's column and two or more columns of choices"),
    "generation": (1, None, "the prompt's column"),
    "chat": (1, 1, "the column of messages"),
    **dict.fromkeys(CORPORA, (1, 1, "the input")),
}


def resolve(table: Any, given: Columns, name: str = "the table") -> Columns:
    """`given` with the open parts guessed from the table, and the table checked against it.

    Raises ConfigError that lists missing columns with the nearest names, what could not be guessed,
    or the bad cells by their rows.
    """
    if given.task in CORPORA:
        given = Columns(given.task, (INPUT,), REFERENCES)  # what its reader makes
    names: list[str] = list(table.column_names)
    problems = missing_columns(
        names, [*(given.text or ()), *([given.label] if given.label else [])]
    )
    if problem := task_problem(given.task):
        problems.append(problem)
    if problems:
        raise ConfigError(f"{name} does not fit:", problems)
    if given.task in GLUE:
        task = GLUE[given.task]
        require_glue_columns(task, given.text, given.label)
        make_glue_task(task, max_length=1).check(table, name)
        return Columns(task.name, task.text, LABEL)
    found = given if given.task in CORPORA else guess(table, given)
    if problems := _open_parts(names, found) or _contradictions(table, given, found):
        raise ConfigError(f"The columns of {name} do not make a task:", problems)
    make_task(table, found, max_length=1).check(table, name)
    return found


def task_problem(name: str | None) -> str | None:
    """What is wrong with the name of a task, if anything is; None is to be guessed."""
    if name is None or name in (*TASKS, *GLUE):
        return None
    near = suggest(name, [*TASKS, *GLUE])
    return f"task is {name!r}{near}; it must be one of {CHOICES}"


def make_task(table: Any, columns: Columns, max_length: int) -> Task:
    """The task for a training table; its labels are those that occur there.

    Raises ConfigError if there is only one.
    """
    if columns.task in CORPORA:
        return CORPORA[columns.task](max_length=max_length)
    text, label = columns.text or (), columns.label
    if columns.task in GLUE:
        return make_glue_task(GLUE[columns.task], max_length)
    if columns.task != "classification":
        return _KINDS[str(columns.task)](text, label, max_length)
    labels = label_names(table[label][:])
    if len(labels) < 2:
        found = f"the single label {labels[0]!r}" if labels else "no label"
        raise ConfigError(f"Column {label!r} has {found}; there is nothing to learn.")
    return Classification(text, label, max_length, labels)


def _open_parts(names: list[str], found: Columns) -> list[str]:
    """What is still to be said."""
    there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(map(repr, names))}"
    separators = [mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]]
    if separators:
        return [f"{there}; the columns seem to be separated by {separators[0]!r}, not by ','"]
    needed = {
        "task": found.task is None,
        "text": not found.text,
        "label": found.label is None and found.task != "chat",
    }
    open_parts = [f"data.{part}" for part, is_open in needed.items() if is_open]
    return [f"{there}; please set {' and '.join(open_parts)}"] if open_parts else []


def _contradictions(table: Any, given: Columns, found: Columns) -> list[str]:
    """What cannot be: numbers of columns, a column in two roles, a first line without names."""
    text, label = found.text or (), found.label
    least, most, meant = _TEXTS[str(found.task)]
    problems = []
    if len(text) < least or (most is not None and len(text) > most):
        problems.append(f"data.text names {len(text)} columns; {found.task} reads {meant}")
    used = [*text, *([label] if label is not None else [])]
    twice = sorted({name for name in used if used.count(name) > 1})
    problems += [f"column {name!r} is named more than once" for name in twice]
    if given.label is None and label is not None and label in map(str, table[label][:]):
        problems.append(
            f"the first line seems to hold data, since {label!r} is one of its column's values; "
            "write the names of the columns there, or set data.label"
        )
    return problems
