"""The checkpoints of a run, and which of them are complete.

A checkpoint holds what the method trains (with LoRA the adapter, never the base), optimizer,
schedule, random state and log. Its last file is `complete`, put there by a rename: a checkpoint
without it was interrupted and is not used. A checkpoint that is deleted loses that file first.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lorakit.files import atomic_write_text

COMPLETE = "complete"
"""The file that marks a checkpoint as complete; holds the seconds of training up to it."""
STATE = "trainer_state.json"
"""transformers' TrainerState: step, log, callbacks."""


def checkpoint_path(run: Path, step: int) -> Path:
    """The directory of the checkpoint of this step, under transformers' name."""
    return run / f"checkpoint-{step}"


def complete_checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, the oldest first."""
    found = [path for path in run.glob("checkpoint-*") if (path / COMPLETE).is_file()]
    return sorted(found, key=_step)


def mark_complete(checkpoint: Path, seconds: float) -> None:
    """Mark the checkpoint as complete."""
    atomic_write_text(checkpoint / COMPLETE, json.dumps({"seconds": seconds}))


def seconds_until(checkpoint: Path) -> float:
    """Seconds of training up to the checkpoint, over all starts of the run."""
    return float(json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))["seconds"])


def prune(run: Path, best_step: int | None) -> None:
    """Delete all but the two newest complete checkpoints and the best one."""
    for old in complete_checkpoints(run)[:-2]:
        if _step(old) != best_step:
            (old / COMPLETE).unlink()
            shutil.rmtree(old)


def is_last(checkpoint: Path) -> bool:
    """Whether training had ended at this checkpoint: all steps done, or early stopping."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    control = state["stateful_callbacks"].get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop", False))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
