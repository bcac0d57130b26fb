"""What a part says while it runs: a file of JSON lines, each with one name and its value.

A part can be killed at any time, so each line is written when it is known, and the last one may be
half a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = tuple[str, Any]
Write = Callable[[str, object], None]


def writer(path: Path) -> Write:
    """Appends one record at a time; what is written is there even if the process dies next."""

    def write(name: str, value: object) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: value}) + "\n")

    return write


def read(path: Path) -> list[Record]:
    """The records in their order, without a last one that was not finished."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [record for line in whole.splitlines() for record in json.loads(line).items()]
