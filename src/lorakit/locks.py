"""One writer in a directory at a time: a lock that ends with its process.

The lock is the operating system's (flock, which NFS carries to its server), so a process that was
killed holds nothing. A file system without flock gets filelock's marker, which the next process on
the same machine takes over. Beside the lock a note says who holds it. Both are hidden files in the
directory, and are gone when it is released.

Source: https://py-filelock.readthedocs.io
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from lorakit.errors import LorakitWarning, SaveError
from lorakit.files import directory_for_writing, discard, flush_directory, flush_tree

LOCK, NOTE = ".lorakit.lock", ".lorakit.lock.json"
_REPLACED = ".replaced"
_RESERVED: ContextVar[Mapping[Path, Callable[[], None]]] = ContextVar(
    "reserved", default=MappingProxyType({})
)
"""The directories that are `reserved` around here, and their checks."""
LOCK_FILES = (LOCK, NOTE)
"""The names of the files that stand in a directory while it is held, and after a kill."""


@contextmanager
def exclusive(directory: Path, place: Path | None = None) -> Iterator[Callable[[], None]]:
    """Hold a directory, which is made if it is missing, against every other process and thread.

    If the block fails, a directory that was made and is empty is removed again. Yields a check that
    raises SaveError if the directory was deleted or moved since. `place` is what the user knows it
    by, if it is not the directory itself.

    Raises SaveError that names the holder if it is held already, OSError if it cannot be written.
    """
    if (require_held := _RESERVED.get().get(directory)) is not None:
        yield require_held
        return
    with directory_for_writing(directory), _locked(directory, place or directory) as require_held:
        yield require_held


@contextmanager
def reserved(directory: Path) -> Iterator[None]:
    """Hold a directory, as `exclusive` does, for whatever takes it by `exclusive` in this block.

    So several things are written as one. Raises as `exclusive` does.
    """
    with exclusive(directory) as require_held:
        token = _RESERVED.set({**_RESERVED.get(), directory: require_held})
        try:
            yield
        finally:
            _RESERVED.reset(token)


@contextmanager
def _locked(directory: Path, place: Path) -> Iterator[Callable[[], None]]:
    from filelock import FileLock, Timeout  # not at import, of which it is the half

    lock, note = FileLock(directory / LOCK, blocking=False), directory / NOTE
    try:
        lock.acquire()
    except Timeout:
        raise SaveError(
            f"{place} is being written by {_holder(note)}; wait until that has ended, or choose "
            "another place."
        ) from None
    ours = _note()

    def require_held() -> None:
        try:
            held = note.is_file() and note.read_bytes() == ours
        except OSError as error:
            raise SaveError(f"{place} can no longer be read: {error}") from error
        if not held:
            raise SaveError(
                f"{place} was deleted or moved while it was being written; run the same command "
                "again."
            )

    try:
        note.write_bytes(ours)
        yield require_held
    finally:
        try:
            discard([note, directory / LOCK])  # the lock's last: it is held until then
        finally:
            lock.release()


def holder(directory: Path) -> str | None:
    """Which process holds the directory; None where none does."""
    from filelock import FileLock, Timeout

    if not (directory / LOCK).exists():
        return None
    try:
        with FileLock(directory / LOCK, blocking=False):
            return None
    except Timeout:
        return _holder(directory / NOTE)


@contextmanager
def new_directory(output: Path, replace: bool = False) -> Iterator[Path]:
    """A directory to write into, which becomes `output` when the block ends without an error.

    It stands beside `output`, so that the rename is atomic; what a killed process has left of it
    goes first, with a LorakitWarning. `output` may exist if it is empty; where `replace`, anything
    that it holds stays until then.

    Raises SaveError that names the holder if another process makes the same directory, or if it
    cannot be put into place.
    """
    output = output.resolve()  # a link stays one, and what it leads to is written
    workplace = output.with_name(f".{output.name}.new")
    directory = workplace / output.name
    try:
        with exclusive(workplace, output):
            _clear(workplace, output)
            if not replace and output.is_dir() and any(output.iterdir()):
                raise SaveError(
                    f"{output} could not be written: it exists already and has files in it."
                )
            try:
                directory.mkdir()
                yield directory
                flush_tree(directory)
                _put(directory, output, workplace / _REPLACED if replace else None)
            finally:
                _put_back(workplace / _REPLACED, output)
                shutil.rmtree(workplace, ignore_errors=True)
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(f"{output} could not be written: {error}") from error


def _clear(workplace: Path, output: Path) -> None:
    """Remove what a killed process has left; what it was about to replace goes back first."""
    replaced = workplace / _REPLACED
    _put_back(replaced, output)
    left = [path for path in (workplace / output.name, replaced) if path.is_dir()]
    for path in left:
        shutil.rmtree(path)
    if left:
        warnings.warn(
            f"An earlier attempt to write {output} was interrupted; what it left is removed.",
            LorakitWarning,
            stacklevel=5,
        )


def _put_back(replaced: Path, output: Path) -> None:
    """Undo the first of the two renames of `_put`, where the second has not happened."""
    if replaced.is_dir() and not output.exists():
        os.replace(replaced, output)


def _put(directory: Path, output: Path, aside: Path | None) -> None:
    """Rename `directory` to `output`; what is there goes `aside`, or is empty."""
    if output.is_dir() and aside is not None:
        os.replace(output, aside)
    elif output.is_dir():
        output.rmdir()
    os.replace(directory, output)
    flush_directory(output.parent)


def _note() -> bytes:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    said = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    return json.dumps(said).encode()


def _holder(note: Path) -> str:
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        return f"process {said['pid']} on {said['host']} since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has only just begun, or has just ended
