"""What an adapter was trained for, in a small file beside it: columns, labels, length.

An adapter's own files name the base and the tensors. Which column is read and what the third logit
means is the task's business, and `lorakit_task.json` keeps that with the adapter when it travels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.files import atomic_write_text
from lorakit.tasks.base import Task
from lorakit.tasks.chat import Chat
from lorakit.tasks.classification import Classification
from lorakit.tasks.generation import Generation
from lorakit.tasks.multiple_choice import MultipleChoice
from lorakit.tasks.nlg.task import CORPORA
from lorakit.tasks.regression import Regression

TASK_FILE = "lorakit_task.json"
_KINDS: tuple[type[Task], ...] = (Classification, Regression, MultipleChoice, Generation, Chat)
KINDS: dict[str, type[Task]] = {**{kind.name: kind for kind in _KINDS}, **CORPORA}


def save_task(task: Task, directory: Path) -> None:
    """Write the task beside an adapter."""
    content = json.dumps({"task": task.name, **asdict(task)}, indent=2, ensure_ascii=False)
    atomic_write_text(directory / TASK_FILE, content + "\n")


def load_task(directory: Path) -> Task | None:
    """The task beside an adapter, or None if there is no such file.

    Raises FormatError if the file is there and cannot be read.
    """
    file = directory / TASK_FILE
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        kind = KINDS[content.pop("task")]
        known = {field.name for field in fields(kind)}
        return kind(**{name: _frozen(v) for name, v in content.items() if name in known})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{file} is damaged: {error!r}") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
