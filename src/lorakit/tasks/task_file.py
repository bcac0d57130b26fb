"""The task of an adapter, in a small file beside it: columns, labels, maximum length.

An adapter's own files name the base and the tensors. Which column is read and what the third logit
means is the task's business, and `lorakit_task.json` keeps that with the adapter when it travels.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
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

    Raises FormatError if the file is there and cannot be read, or names an unknown task.
    """
    file = directory / TASK_FILE
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(file)
        name = str(content.pop("task"))
        if name in TASKS:
            return _made(TASKS[name].task_class, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{file} is damaged and cannot be read: {error!r}") from error
    raise FormatError(
        f"{file} names an unknown task: {task_problem(name)}. A task of your own has to be "
        "registered first, with lorakit.tasks.register."
    )


def _made(kind: type[Task], content: dict[str, Any]) -> Task:
    known = {field.name for field in fields(kind)}
    return kind(**{name: _frozen(value) for name, value in content.items() if name in known})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
