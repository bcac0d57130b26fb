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
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lorakit.errors import SaveError
from lorakit.files import discard

LOCK, NOTE = ".lorakit.lock", ".lorakit.lock.json"
LOCK_FILES = (LOCK, NOTE)
"""The names of the files that stand in a directory while it is held, and after a kill."""


@contextmanager
def exclusive(directory: Path, place: Path | None = None) -> Iterator[None]:
    """Hold a directory, which is made if it is missing, against every other process and thread.

    `place` is what the user knows it by, if it is not the directory itself. Raises SaveError that
    names the holder if it is held already, OSError if it cannot be written.
    """
    lock, note = FileLock(directory / LOCK, blocking=False), directory / NOTE
    try:
        lock.acquire()
    except Timeout:
        raise SaveError(
            f"{place or directory} is being written by {_holder(note)}; wait until that has ended, "
            "or choose another place."
        ) from None
    try:
        note.write_text(json.dumps(_note()), encoding="utf-8")
        yield
    finally:
        discard([note, directory / LOCK])  # the lock's last: it is held until then
        lock.release()


def _note() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(note: Path) -> str:
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        return f"process {said['pid']} on {said['host']} since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has only just begun, or has just ended
