"""The checkpoints of a run, and which of them are whole.

A checkpoint holds what the method trains (with LoRA the adapter, never the base), optimizer,
schedule, random state and log. Its last file is `complete`: once everything else is on the disk, it
is put there by a rename, and names every file with its size and SHA-256. A checkpoint without it
was interrupted; one that differs from it is damaged, or mixed with another. Neither is used. A
checkpoint that is deleted loses that file first.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

from lorakit.errors import FormatError
from lorakit.field_types import fits
from lorakit.files import atomic_write_text, flush_directory, flush_tree, sha256_of
from lorakit.foreign_files import read_json
from lorakit.locks import LOCK_FILES
from lorakit.runs.origin import run_name

COMPLETE = "complete"
"""The file that marks a checkpoint as complete."""
STATE = "trainer_state.json"
"""transformers' TrainerState: step, log, callbacks."""
_NAME = re.compile("checkpoint-([0-9]+)")


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint."""

    path: Path
    seconds: float
    """Seconds of training up to it, over all starts of the run."""
    state: Any
    """transformers' TrainerState."""

    @property
    def is_last(self) -> bool:
        """Whether training had ended here: all steps done, or early stopping."""
        control = self.state.stateful_callbacks.get("TrainerControl", {}).get("args", {})
        return bool(control.get("should_training_stop", False))


def checkpoint_path(run: Path, step: int) -> Path:
    """The directory of the checkpoint of this step, under transformers' name."""
    return run / f"checkpoint-{step}"


def complete_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run that are marked as complete, the oldest first."""
    return [path for path in _all(run) if (path / COMPLETE).is_file()]


def mark_complete(checkpoint: Path, seconds: float) -> None:
    """Mark the checkpoint as complete, when all of it is on the disk."""
    flush_tree(checkpoint)
    files = {name: _facts(file) for name, file in _content(checkpoint)}
    mark = {"run": _run_of(checkpoint), "seconds": seconds, "files": files}
    atomic_write_text(checkpoint / COMPLETE, json.dumps(mark))
    flush_directory(checkpoint.parent)


def newest_whole(run: Path, log: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is as it was written; those that are not are said.

    The best checkpoint, which a run with early stopping ends with, has to be whole as well.
    """
    for path in reversed(_all(run)):
        try:
            checkpoint = read_checkpoint(path)
            if best := checkpoint.state.best_global_step:
                read_checkpoint(checkpoint_path(run, best))
            return checkpoint
        except FormatError as error:
            log(f"{path} is not used: {error}")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint, if it is as it was written.

    Raises FormatError that lists every file which is missing, was added or has changed.
    """
    seconds, files = _read_mark(path)
    try:
        there = {name: _facts(file) for name, file in _content(path)}
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error}") from error
    problems = [
        *(f"{name} is missing" for name in files if name not in there),
        *(f"{name} is not one of its files" for name in there if name not in files),
        *(f"{n} is not as it was written" for n in files if n in there and there[n] != files[n]),
    ]
    if problems:
        raise FormatError(f"{path.name} is damaged:", problems)
    state = _read_state(path / STATE)
    if checkpoint_path(path.parent, state.global_step) != path:
        raise FormatError(f"{path.name} holds the checkpoint of step {state.global_step}.")
    return Checkpoint(path, seconds, state)


def prune(run: Path, step: int, best_step: int | None) -> None:
    """Delete all but the two newest complete checkpoints up to this step, and the best one."""
    earlier = [path for path in complete_checkpoints(run) if _step(path) <= step]
    for old in earlier[:-2]:
        if _step(old) != best_step:
            remove_checkpoint(old)


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete the checkpoint, or what else stands in its place."""
    if not checkpoint.is_dir():
        checkpoint.unlink(missing_ok=True)
        return
    (checkpoint / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def _all(run: Path) -> list[Path]:
    found = [path for path in run.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _run_of(checkpoint: Path) -> str | None:
    return run_name(checkpoint.parent.parent)


def _content(checkpoint: Path) -> Iterator[tuple[str, Path]]:
    """The files of a checkpoint, under their names in it."""
    for file in sorted(checkpoint.rglob("*")):
        if file.is_file() and file.name not in (COMPLETE, *LOCK_FILES) and file.suffix != ".tmp":
            yield file.relative_to(checkpoint).as_posix(), file


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def _read_mark(checkpoint: Path) -> tuple[float, Mapping[str, Any]]:
    if not (checkpoint / COMPLETE).exists():
        raise FormatError(f"{checkpoint.name} is missing or was not written to its end.")
    content = read_json(checkpoint / COMPLETE)
    if not _is_mark(content):
        raise FormatError(
            f"Its file {COMPLETE} is damaged: it must be a mapping with run, seconds, which is a "
            "number, and files, a mapping."
        )
    if content["run"] != _run_of(checkpoint):
        raise FormatError(f"{checkpoint.name} is of another run.")
    return float(content["seconds"]), content["files"]


def _is_mark(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and "run" in content
        and fits(float, content.get("seconds"))
        and isinstance(content.get("files"), dict)
    )


def _read_state(file: Path) -> Any:
    try:
        return TrainerState.load_from_json(str(file))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{file.name} is of another version of transformers: {error}") from error
