"""A recipe file for several tasks: what they share, and a line of settings for each task.

    base: FacebookAI/roberta-base
    output: runs/glue/{task}
    tasks:
      sst2: { training.learning_rate: 5e-4, training.epochs: 60 }
      mnli: { training.learning_rate: 5e-4, training.epochs: 30 }
      mnli.rdrop: { data.task: mnli, loss.kind: rdrop }

`task: NAME` chooses one, usually as `--set task=NAME`. Its settings, under dotted names as for
`--set`, override the shared ones, and `{task}` in any string becomes NAME. A name with a dot
inherits from the name before the dot: `mnli.rdrop` is `mnli` with other settings.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from lorakit.errors import suggest

TASKS, TASK = "tasks", "task"
_PLACE = "{task}"


def settings_of(mapping: Mapping[str, Any], name: Any) -> dict[str, Any] | None:
    """The dotted settings of a task of the file; None if it has no such task."""
    tasks = mapping.get(TASKS)
    if name is None or not isinstance(tasks, Mapping) or not isinstance(name, Hashable):
        return None
    if not isinstance(tasks.get(name), Mapping):
        return None
    below = settings_of(mapping, str(name).rpartition(".")[0]) if "." in str(name) else None
    return {**(below or {}), **tasks[name]}


def with_task_name(value: Any, name: object) -> Any:
    """The value with `{task}` replaced by the task's name, in strings, lists and keys."""
    if isinstance(value, Mapping):
        return {with_task_name(k, name): with_task_name(part, name) for k, part in value.items()}
    if isinstance(value, list | tuple):
        return [with_task_name(part, name) for part in value]
    return value.replace(_PLACE, str(name)) if isinstance(value, str) else value


def shared(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What the tasks of the file share."""
    return {key: value for key, value in mapping.items() if key not in (TASK, TASKS)}


def with_first_task(mapping: Mapping[str, Any]) -> Any:
    """The shared part with the first task's name in it, to check it for other mistakes."""
    names = mapping[TASKS] if isinstance(mapping[TASKS], Mapping) else ()
    return with_task_name(shared(mapping), str(next(iter(names), TASK)))


def task_choice_problem(mapping: Mapping[str, Any]) -> str:
    """Why none of the file's tasks could be chosen."""
    tasks, name = mapping[TASKS], mapping.get(TASK)
    if not isinstance(tasks, Mapping) or not all(isinstance(t, Mapping) for t in tasks.values()):
        return "tasks must be a mapping of names to settings, such as sst2: {training.epochs: 60}"
    choices = f"one of {', '.join(map(str, tasks))}"
    if name is None:
        return f"task is missing; this recipe has several: choose with --set task=NAME, {choices}"
    return f"task is {name!r}{suggest(str(name), map(str, tasks))}; it must be {choices}"
