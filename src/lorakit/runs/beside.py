"""The files beside an adapter's weights: its tokenizer, its task, the tokens at which it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.models.loading import load_tokenizer
from lorakit.models.stop_tokens import load_generation_config, set_stop_tokens
from lorakit.tasks.base import Task
from lorakit.tasks.padding import settle_padding
from lorakit.tasks.task_file import load_task


def stored_task(directory: Path | None) -> Task | None:
    """The adapter's task; None without a task file. Raises FormatError for a damaged one."""
    return None if directory is None else load_task(directory)


def load_own_tokenizer(directory: Path | None) -> Any:
    """The adapter's own tokenizer; None if it has none. Raises FormatError for a damaged one."""
    if directory is None or not (directory / "tokenizer_config.json").is_file():
        return None
    return load_tokenizer(directory)


def settle_tokens(model: Any, tokenizer: Any, task: Task, directory: Path | None) -> None:
    """Give model and tokenizer the padding token and the stop tokens of the training.

    The stop tokens stand beside the adapter; where they do not, the task says them. Raises
    FormatError for damaged files.
    """
    settle_padding(tokenizer, model)
    if not task.generates or (directory and load_generation_config(model, directory)):
        return
    set_stop_tokens(model, tokenizer, task.stop_tokens(tokenizer))
