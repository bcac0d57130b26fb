"""What stands beside the weights of the merged model: configs, tokenizer, and the base's files.

The tokenizer with its chat template, the labels, and the tokens that pad and stop are the
adapter's, and where it has none the base's.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorakit.injection.declared_ties import take_back
from lorakit.models.loading import load_tokenizer
from lorakit.models.small_files import TEMPLATES, TOKENIZER, small_files
from lorakit.models.stop_tokens import (
    load_generation_config,
    save_generation_config,
    set_stop_tokens,
)
from lorakit.runs.beside import settle_tokens, stored_task
from lorakit.tasks.base import Task
from lorakit.tasks.padding import settle_padding

_COPIED = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "LICENSE*", "NOTICE*", "*/config.json")
_NEVER = (
    "config.json",
    "generation_config.json",
    "adapter_*",
    "*.index.json",
    "trainer_state.json",
    "lorakit_*",
    "all_results.json",
    "*_results.json",
)
_LARGEST = 64 << 20
"""Bytes of a file beside the weights."""


@dataclass(frozen=True)
class Companions:
    """The model whose configs are written, and the tokenizer."""

    model: Any
    tokenizer: Any
    """None: neither the adapter nor the base has one."""
    is_own: bool
    """Whether it is the adapter's."""
    task: Task | None
    """The adapter's."""
    base: Path

    def write(self, directory: Path, dtype: torch.dtype, untied: bool) -> None:
        """Write configs and tokenizer, and copy what else stands beside the base's weights.

        `dtype` is that of most weights; `untied`: those that were tied no longer are.
        """
        model: Any = self.model
        for file in _small(self.base, TOKENIZER + TEMPLATES if self.is_own else ()):
            target = directory / file.relative_to(self.base)
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(file, target)
        for module in model.modules() if untied else ():
            take_back(module)
        model.config.architectures = [type(model).__name__]
        if model.config.dtype is None:
            model.config.dtype = str(dtype).removeprefix("torch.")
        model.config.save_pretrained(directory)
        if model.can_generate():
            save_generation_config(model, directory)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(directory)


def settle(
    model: Any, base: str, revision: str | None, directory: Path, beside: Path | None, own: Any
) -> Companions:
    """Let the configs of `model` say what the task and the tokenizer say.

    `directory` has the files of the base, `beside` those of the adapter, `own` is its tokenizer.
    Raises FormatError for damaged files.
    """
    task, tokenizer = stored_task(beside), own
    if own is None and small_files(base, TOKENIZER):
        tokenizer = load_tokenizer(base, revision)
    if model.can_generate():
        load_generation_config(model, directory)
    for name, value in ({} if task is None else task.head()).items():
        setattr(model.config, name, value)
    if tokenizer is not None and task is not None:
        settle_tokens(model, tokenizer, task, beside)
    elif tokenizer is not None and model.can_generate():  # another tool's adapter names no task
        set_stop_tokens(model, tokenizer)
    elif tokenizer is not None:
        settle_padding(tokenizer, model)
    return Companions(model, tokenizer, own is not None, task, directory)


def _small(base: Path, more: Sequence[str]) -> list[Path]:
    """The files beside the weights, without those that the merged model has of its own."""
    found = {file for pattern in _COPIED for file in base.glob(pattern)}
    own = {base / name for pattern in (*_NEVER, *more) for name in base.glob(pattern)}
    return sorted(f for f in found - own if f.is_file() and f.stat().st_size <= _LARGEST)
