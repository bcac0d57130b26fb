"""The section of the report on the check of a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.gpu import goals

PROVENANCE = {
    "command": "python -m benchmarks.gpu_check",
    "commit": None,
    "uncommitted_changes": None,
    "lorakit_sha256": "0123456789abcdef",
    "date": "2026-01-02T03:04:05+00:00",
    "hardware": {"device": {"name": "A device", "compute_capability": "9.0", "driver": "580.1"}},
    "versions": {"torch": "2.13.0", "lorakit": None},
}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median - 0.01, "max": median + 0.01}


def steps(q_and_v: float = 1.05, all_linear: float = 1.14, lead: float = 1.3) -> dict[str, Any]:
    ratios = {"q and v": q_and_v, "all linear": all_linear}
    rows = [
        {"model": model, "tokens": tokens, "targets": targets, "dropout": dropout,
         "lorakit": spread(ratio if tokens == 2048 else 9.0), "peft": spread(1.6),
         "peft / lorakit": spread(lead if tokens == 2048 else 0.1)}
        for model in ("one", "two") for tokens in (512, 2048)
        for targets, ratio in ratios.items() for dropout in (0.0, 0.1)
    ]  # fmt: skip
    return part(rows)


def part(rows: list[dict[str, Any]], state: str = "done", **others: Any) -> dict[str, Any]:
    return {"title": "A title", "state": state, "seconds": 1.0, "rows": rows, **others}


def memory(*pairs: tuple[float, float]) -> dict[str, Any]:
    return part([{"lorakit": one, "peft": other} for one, other in pairs])


def kept(*values: float) -> dict[str, Any]:
    return part([
        {"dtype": "bfloat16", "dropout": dropout, "library": "lorakit", "kept": value}
        for dropout, value in zip((0.0, 0.1), values, strict=True)
    ])  # fmt: skip


def verdicts(**parts: dict[str, Any]) -> list[str]:
    return [row["reached"] for row in goals.table(parts)]


def test_goals_that_are_reached():
    found = verdicts(steps=steps(), memory=memory((1, 2)), kept_bytes=kept(1.0, 1.0))
    assert found == ["yes"] * len(goals.GOALS)


@pytest.mark.parametrize(
    ("parts", "missed"),
    [
        ({"steps": steps(q_and_v=1.09)}, 0),
        ({"steps": steps(all_linear=1.16)}, 1),
        ({"steps": steps(lead=1.24)}, 2),
        ({"memory": memory((1, 2), (2, 2))}, 3),
        ({"kept_bytes": kept(1.1, 1.0)}, 4),
        ({"kept_bytes": kept(1.0, 1.1)}, 5),
    ],
)
def test_each_bound_is_held(parts, missed):
    found = verdicts(**parts)
    assert [place for place, verdict in enumerate(found) if verdict == "no"] == [missed]


def test_what_was_not_measured_is_no_goal_reached():
    assert set(verdicts()) == {"not measured"}
    cut = {**steps(), "state": "cut off"}
    assert verdicts(steps=cut, memory=part([]))[:4] == ["yes, so far"] * 3 + ["not measured"]


def test_each_result_file_has_a_section(tmp_path: Path):
    tests = part(
        [{"file": "tests/gpu/test_a.py", "passed": 2, "failed": 1, "skipped": 1, "seconds": 3.0}],
        "failed",
        failures=[{"test": "tests/gpu/test_a.py::test_b", "message": "not equal\nat all"}],
        skips={"no second GPU": 1},
        not_ended=["tests/gpu/test_a.py::test_c"],
        error="1 failed",
    )
    late = part([], "not started", reason="the time of the whole check was over")
    result = {"check": "gpu", "small": False, "provenance": PROVENANCE}
    text = json.dumps({**result, "parts": {"tests": tests, "steps": steps(), "demo": late}})
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "a-device.json").write_text(text, encoding="utf-8")
    found = report.write(tmp_path).read_text(encoding="utf-8")
    assert "## `gpu_check` on A device\n" in found
    assert "commit none, lorakit's source 0123456789ab; name A device, compute capability" in found
    assert "torch 2.13.0, lorakit not installed." in found
    assert "| step over floor, 2,048 tokens: q, v |  | 1.6 | 1.05 | ≤ 1.08 | yes |" in found
    assert "| tests | failed | 1 | 1 | 2 passed, 1 failed, 1 skipped |" in found
    assert "| demo | not started | 1 | 0 | the time of the whole check was over |" in found
    assert "Failed:\n\n- tests/gpu/test_a.py::test_b: not equal\n\nSkipped" in found
    assert "- 1 x no second GPU" in found
    assert "Never ended:\n\n- tests/gpu/test_a.py::test_c" in found
    assert "The last that `tests` said:\n\n```\n1 failed\n```" in found
