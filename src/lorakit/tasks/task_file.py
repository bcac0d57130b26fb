"""The task of an adapter, in a small file beside it: columns, labels, maximum length.

An adapter's own files name the base and the tensors. Which column is read and what the third logit
means is the task's business, and `lorakit_task.json` keeps that with the adapter when it travels.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.field_types import field_problems
from lorakit.files import atomic_write_text
from lorakit.foreign_files import read_json
from lorakit.tasks.base import Task
from lorakit.tasks.registry import TASKS, task_problem
from lorakit.text import to_json

TASK_FILE = "lorakit_task.json"


def save_task(task: Task, directory: Path) -> None:
    """Write the task beside an adapter."""
    content = to_json({"task": task.name, **asdict(task)}, indent=2, ensure_ascii=False)
    atomic_write_text(directory / TASK_FILE, content + "\n")


def load_task(directory: Path) -> Task | None:
    """The task beside an adapter, or None if there is no such file.

    Raises FormatError that lists what is wrong in a file that is there.
    """
    file = directory / TASK_FILE
    if not file.is_file():
        return None
    try:
        content = read_json(file)
    except FormatError as error:
        raise FormatError(f"{file} is damaged and cannot be read: {error}") from error
    name = content.pop("task", None) if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise FormatError(f"{file} is damaged: it must be a mapping with the name of the task.")
    if name in TASKS:
        return _made(TASKS[name].task_class, content, file)
    raise FormatError(
        f"{file} names an unknown task: {task_problem(name)}. A task of your own has to be "
        "registered first, with lorakit.tasks.register."
    )


def _made(kind: type[Task], content: dict[str, Any], file: Path) -> Task:
    if problems := field_problems(kind, content):
        raise FormatError(f"{file} is damaged:", problems)
    known = {field.name for field in fields(kind)}
    return kind(**{name: _frozen(value) for name, value in content.items() if name in known})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
