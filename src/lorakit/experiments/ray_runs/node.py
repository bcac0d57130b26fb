"""What happens on a node of a cluster: the run, and before it the question whether it can be made.

A run is made in a directory that is gone afterwards, and its files are the answer. So nodes and the
sweep need no file system in common, and a run that is lost has written nothing.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np

import lorakit
from lorakit.errors import LorakitError
from lorakit.experiments.ray_runs.sources import missing
from lorakit.foreign_files import read_json
from lorakit.locks import LOCK_FILES, exclusive, holder
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import load_recipe
from lorakit.runs.directory import CHECKPOINTS, RECIPE, RESULT
from lorakit.training.result import own_commit
from lorakit.training.run import train

_PREFIX, _YOUNG = "lorakit-run-", 3600.0
_NOT_SENT = (RECIPE, RESULT, CHECKPOINTS, *LOCK_FILES)


@dataclass(frozen=True)
class Work:
    """A run to be made."""

    recipe: Mapping[str, Any]
    directory: str
    """What paths in the recipe are relative to."""
    sources: tuple[str, ...]
    """What the recipe names of this machine's file system."""


@dataclass(frozen=True)
class Trained:
    """A run that has ended."""

    log: str
    """What it has printed."""
    seconds: float
    error: str | None
    """None: it is finished."""
    recipe: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Mapping[str, Any]
    """Bytes of the others by path in its directory; Ray passes arrays of them on uncopied."""


@dataclass(frozen=True)
class Facts:
    """What a node has."""

    version: str
    """lorakit's, with its commit if it runs from a checkout."""
    missing: tuple[str, ...]
    """Of the sources that were asked for."""


def facts(sources: Iterable[str]) -> Facts:
    """What this machine has, of these absolute paths and patterns."""
    commit = own_commit()
    version = lorakit.__version__ + (f" of commit {commit[:12]}" if commit else "")
    return Facts(version, tuple(missing(sources)))


def train_here(work: Work) -> Iterator[Trained | None]:
    """Make a run: yields None when it begins, and at the end what came of it."""
    yield None
    since = time.monotonic()
    if os.path.isdir(work.directory):  # else nothing of the recipe is in it
        os.chdir(work.directory)
    with _workplace() as place:
        run, said = place / "run", StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            error = _train(work, run)
        made = _made(run) if error is None else ({}, {}, {})
        yield Trained(said.getvalue(), time.monotonic() - since, error, *made)


@contextmanager
def _workplace() -> Iterator[Path]:
    """A temporary directory, after those that killed processes have left were deleted.

    One that is young may be another's that is not held yet.
    """
    for left in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or deleted by another run
            if left.stat().st_mtime < time.time() - _YOUNG and holder(left) is None:
                shutil.rmtree(left)
    with TemporaryDirectory(prefix=_PREFIX) as name, exclusive(Path(name)):
        yield Path(name)


def _train(work: Work, output: Path) -> str | None:
    """Why there is no result, or None; whatever ends a run ends no other."""
    if lacking := missing(work.sources):
        return f"{os.uname().nodename} lacks {', '.join(lacking)}."
    try:
        train(from_mapping({**work.recipe, "output": str(output)}), log=print)
    except LorakitError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _made(run: Path) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """The recipe, the result and the other files but for what only resuming takes."""
    found = {path: path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()}
    files = {
        name.as_posix(): _content(path)
        for path, name in found.items()
        if name.parts[0] not in _NOT_SENT
    }
    return load_recipe(run / RECIPE), read_json(run / RESULT), files


def _content(path: Path) -> Any:
    """The bytes, mapped into memory and not read."""
    if not path.stat().st_size:
        return np.empty(0, np.uint8)  # which cannot be mapped
    return np.memmap(path, np.uint8, "r").view(np.ndarray)
