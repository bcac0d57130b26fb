"""The result of a check: one file a kind of device, written again after every part."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Part
from benchmarks.gpu.processes import Ended
from benchmarks.gpu.records import Record

KEPT = Path("benchmarks/results/gpu")
"""Of whole runs on an accelerator, in the project's folder."""
OTHERS = Path("runs/gpu_check")
"""Of runs on a CPU, which are small, and of some parts only."""

DONE, SKIPPED, FAILED, CUT_OFF, NOT_STARTED = (
    "done", "skipped", "failed", "cut off", "not started",
)  # fmt: skip


TIME_OVER = "the time of the whole check was over"


def name(provenance: dict[str, Any]) -> str:
    """A file's name for the kind of device: `nvidia-h200.json`.

    >>> name({"hardware": {"device": {"name": "NVIDIA H200"}}})
    'nvidia-h200.json'
    """
    device = provenance["hardware"]["device"]
    kind = device if isinstance(device, str) else device["name"]
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-") + ".json"


def write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all: a check may be killed while it writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def outcome(part: Part, ended: Ended, limit: str, records: list[Record]) -> dict[str, Any]:
    """What a part came to: its state, seconds, rows, and its error or reason.

    `limit` says why it was killed, if it was.
    """
    found = part.collect(records)
    reason = next((value for kind, value in records if kind == "skipped"), None)
    state = state_of(ended, reason)
    result = {"title": part.title, "state": state, "seconds": round(ended.seconds, 1), **found}
    if state == SKIPPED:
        result["reason"] = reason
    if state == CUT_OFF:
        result["reason"] = limit
    if state == FAILED:
        result["exit_status"] = ended.code
    if state in (FAILED, CUT_OFF):
        result["error"] = ended.last_lines
    return result


def state_of(ended: Ended, reason: str | None) -> str:
    if ended.code is None:
        return CUT_OFF
    if ended.code != 0:
        return FAILED
    return DONE if reason is None else SKIPPED


def not_started(part: Part) -> dict[str, Any]:
    found = {"title": part.title, "state": NOT_STARTED, "seconds": 0, "rows": []}
    return {**found, "reason": TIME_OVER}


def summary(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a part, for people."""
    return [
        {
            "part": name,
            "state": part["state"],
            "seconds": part["seconds"],
            "rows": len(part["rows"]),
            "what": note(part),
        }
        for name, part in result["parts"].items()
    ]


def note(part: dict[str, Any]) -> str:
    """Why it is not whole, or how its tests ended."""
    if "failures" in part:
        counts = {k: sum(row[k] for row in part["rows"]) for k in ("passed", "failed", "skipped")}
        tests = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        return "; ".join(filter(None, (tests if part["rows"] else "", part.get("reason", ""))))
    last = (part.get("error") or "").splitlines()[-1:]
    return part.get("reason") or (last[0] if last else part["title"])
