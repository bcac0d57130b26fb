"""Tables that were measured, as result files with where they come from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import provenance
from benchmarks.registry import Settings

RESULTS = Path(__file__).parents[1] / "results" / "comparison"
_PLACE = re.compile(r"(?<![\w:/.])/(?:[\w.+@-]+/)+([\w.+@-]+)")
"""An absolute path, and its last part."""
Results = dict[str, dict[str, Any]]
"""The result files by name."""


def keep(name: str, source: Path, results: Path) -> Path:
    """Write a result file of a sweep's directory, or of what `lorakit latency --json` printed.

    Of absolute paths, which are those of one machine, the last parts are kept.
    """
    origin = provenance.describe(Settings())
    origin["command"] = f"lorakit compare {name}" if source.is_dir() else "lorakit latency"
    found = _sweep(source) if source.is_dir() else {"table": _json(source)}
    found = {"name": name, "provenance": origin, **found}
    results.mkdir(parents=True, exist_ok=True)
    file = results / f"{name}.json"
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    file.write_text(_PLACE.sub(r"\1", text), "utf-8")
    return file


def read(results: Path) -> Results:
    """What is kept in a directory, and the benchmark beside it that the page shows too."""
    beside = results.parent.glob("section_seven.json")
    return {file.stem: _json(file) for file in (*sorted(results.glob("*.json")), *beside)}


def _sweep(directory: Path) -> dict[str, Any]:
    """The tables without the places of the runs, and the sweep that made them."""
    table = _json(directory / "table.json")
    for row in table["rows"]:
        del row["sources"]
    texts = {"sweep": "sweep.yaml", "markdown": "table.md"}
    read = {name: (directory / file).read_text("utf-8") for name, file in texts.items()}
    return {"table": table, **read}


def _json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))
