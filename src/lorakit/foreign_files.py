"""Files that others wrote, read in bounded time and memory; whatever is wrong is one FormatError.

A name may be anything, a path may lead to a pipe that never ends, and JSON may be nested deeper
than Python can follow, or hold numbers that no float can. Configs, records, recipes and tables are
opened by `open_file`, and configs, records and headers in JSON are read by `parse_json`. The rows
of a table are not: a cell may hold any JSON (`tables.json_rows`).
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import IO, Any

from lorakit.errors import FormatError

LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON file, or letters of a header: a hundred times the largest adapter's config."""
_DEEPEST = 64
_EFFECTIVE = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
_SHOWN = 100
_DIGITS = 19
"""Of an integer: those of 64 bits."""
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def local_path(path: object) -> Path:
    """The path, whether something is there or not; FormatError if it could not even be looked at.

    >>> local_path("adapter")
    PosixPath('adapter')
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise FormatError(f"{_short(path)} is a {type(path).__name__}; a path is a str or a Path.")
    try:
        found = os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        return Path(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FormatError(f"{_short(text)} cannot be read: {reason}.") from error
    if stat.S_ISDIR(found.st_mode) and not os.access(text, os.R_OK | os.X_OK, **_EFFECTIVE):
        raise FormatError(f"{_short(text)} cannot be read: no permission for this directory.")
    return Path(text)


def open_file(path: Path) -> IO[bytes]:
    """A regular file, to be read; FormatError for anything else that a path may lead to, OSError
    if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe has no writer
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise FormatError(f"{path} is {_KINDS.get(kind, 'a device')}; it must be a file.")
    return open(descriptor, "rb")


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The content of a regular file of at most `limit` bytes; raises as `open_file` does."""
    with open_file(path) as file:
        content = file.read(-1 if limit is None else limit + 1)
    if limit is not None and len(content) > limit:
        raise FormatError(
            f"{path} has more than {limit:,} bytes, the limit for a file of its kind."
        )
    return content


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises FormatError."""
    try:
        text = read_bytes(path, LARGEST_JSON).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    return parse_json(text, str(path))


def parse_json(text: str, source: str) -> Any:
    """The value, in which every number is finite; FormatError that names the source."""
    if len(text) > LARGEST_JSON:
        raise FormatError(f"{source} has more than {LARGEST_JSON:,} letters, the limit for JSON.")
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_number)
    except RecursionError as error:
        raise FormatError(f"{source} is nested too deeply.") from error
    except ValueError as error:
        raise FormatError(f"{source} is not valid JSON: {error}") from error
    if is_deeper(value, _DEEPEST):
        raise FormatError(f"{source} is nested more than {_DEEPEST} deep.")
    return value


def is_deeper(value: Any, limit: int) -> bool:
    """Whether something in a value of JSON stands more than `limit` deep, the value itself at 1.

    >>> is_deeper([{"a": []}], 3), is_deeper([{"a": [1]}], 3)
    (False, True)
    """
    level = [value]
    for _ in range(limit):
        level = [
            part
            for parent in level
            if isinstance(parent, dict | list)
            for part in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return False
    return True


def _integer(text: str) -> int:
    if len(text.removeprefix("-")) > _DIGITS:
        raise ValueError(f"the integer {_short(text)} has more than 64 bits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{_short(text)} is not a finite number")


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str | os.PathLike) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} letters)"
