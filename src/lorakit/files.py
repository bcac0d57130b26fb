"""Atomic writes, and the digest of a file.

A file is written under a temporary name in the same directory, flushed to the disk, and renamed. A
rename is atomic, so readers find either the old file or the new one, also after a crash. Temporary
names begin with a dot, end in `.tmp` and contain the ids of process and thread, so two of them on
one machine never write to the same one.

Source: https://lwn.net/Articles/457667 (why the flush, and why the directory's too).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES
from pathlib import Path
from secrets import token_hex
from shutil import copy2
from threading import get_ident


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path whose file replaces `path` when the block ends without an error.

    Its permissions follow the umask, whatever mode the writer sets.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     place = Path(directory) / "result.txt"
    ...     with atomic_write(place) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     [file.name for file in place.parent.iterdir()], place.read_text()
    (['result.txt'], 'whole')
    """
    temporary = temporary_path(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes its files private
        flush(temporary)
        os.replace(temporary, path)
    finally:
        discard([temporary])
    flush_directory(path.parent)


def atomic_write_text(path: Path, text: str, newline: str | None = None) -> None:
    """Write a whole UTF-8 file or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline=newline)


@contextmanager
def directory_for_writing(directory: Path) -> Iterator[None]:
    """Create the directory and its parents; those created are removed again if the block fails."""
    missing = _missing(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        _remove_empty(missing)
        raise


@contextmanager
def undone_on_error(path: Path) -> Iterator[None]:
    """What is at `path`, a file or files in a directory, is as before if the block fails.

    The block replaces files, as `atomic_write` does: what they were has a second name meanwhile, or
    a copy where the file system gives a file one name only. Raises OSError where neither succeeds,
    before the block.
    """
    missing, before = _missing(path), _stamps(path)
    ending = f"before-{token_hex(4)}"  # a block may be in another one
    kept = {file: temporary_path(file.with_name(f"{file.name}.{ending}")) for file in before}
    try:
        for file, name in kept.items():
            _keep(file, name)
        yield
    except BaseException:
        now = _stamps(path)
        discard(now.keys() - before.keys() - set(kept.values()))
        for file in (file for file, stamp in before.items() if now.get(file) != stamp):
            os.replace(kept[file], file)
        _remove_empty(missing)
        raise
    finally:
        discard(kept.values())


def _keep(file: Path, name: Path) -> None:
    """Let `name` be this file whatever replaces it."""
    try:
        os.link(file, name)
    except OSError:  # not all file systems give a file two names
        copy2(file, name)


def _stamps(path: Path) -> dict[Path, tuple[int, int]]:
    """What tells a file from one that replaces it, for each file in a directory or the one."""
    files = [path, *(path.iterdir() if path.is_dir() else ())]
    states = {file: file.stat() for file in files if file.is_file()}
    return {file: (state.st_ino, state.st_mtime_ns) for file, state in states.items()}


def try_directory(directory: Path) -> None:
    """Raise OSError if the directory cannot be created or written, and leave all as it was."""
    missing = _missing(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), str(directory))
    finally:
        _remove_empty(missing)


def _missing(directory: Path) -> list[Path]:
    """Those of a directory and its parents that are not there, the innermost first."""
    return [path for path in (directory, *directory.parents) if not path.exists()]


def _remove_empty(directories: Iterable[Path]) -> None:
    for path in directories:
        with suppress(OSError):
            path.rmdir()  # only an empty one is removed


def temporary_path(path: Path) -> Path:
    """Where a file is written before the rename, which requires the same directory."""
    return path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.tmp")


def flush(path: Path) -> None:
    """Wait until this file or directory is on the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directory(directory: Path) -> None:
    """The same for the renames in a directory; only POSIX can open one."""
    if os.name == "posix":
        flush(directory)


def flush_tree(directory: Path) -> None:
    """The same for a directory and everything in it."""
    for path in directory.rglob("*"):
        flush_directory(path) if path.is_dir() else flush(path)
    flush_directory(directory)


def obstacle(directory: Path) -> OSError | None:
    """The error that a file of a megabyte meets in this directory, or None if it can be written."""
    probe = temporary_path(directory / "probe")
    try:
        probe.write_bytes(bytes(1 << 20))
        flush(probe)
    except OSError as error:
        return error
    finally:
        discard([probe])
    return None


def discard(paths: Iterable[Path]) -> None:
    """Delete these files where they exist; errors are ignored."""
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
