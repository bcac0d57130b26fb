"""The results of a sweep's runs, each of which is read once, and again when its file changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError
from lorakit.runs.directory import RESULT, result_content

_KEPT = 10_000
"""Results, of a few kilobytes each."""


def result_in(directory: Path) -> Mapping[str, Any] | None:
    """The result of a run; None if it is not finished, or a result that has to be made again."""
    file = directory / RESULT
    try:
        found = file.stat()
    except OSError:
        return None
    return _content(file, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(_KEPT)
def _content(file: Path, *state: int) -> Mapping[str, Any] | None:
    """What is in the file; `state` is what changes when it does."""
    try:
        return result_content(file)
    except (FormatError, OSError):
        return None
