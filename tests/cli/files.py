"""Files that tests of commands write."""

from __future__ import annotations

import csv
from pathlib import Path


def write_csv(file: Path, rows: list[tuple[str, ...]]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file
