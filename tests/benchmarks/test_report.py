"""The report is made of the result files and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import goals, report
from benchmarks.goals import GOALS
from benchmarks.registry import NAMES

PROVENANCE = {
    "command": "python -m benchmarks",
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "date": "2026-01-02T03:04:05+00:00",
    "hardware": {"cpu": "a processor", "torch_threads": 2, "load_average_1min": 0.1},
    "versions": {"torch": "2.13.0"},
}


@pytest.mark.parametrize(
    ("average", "text"),
    [(3.9, "load 3.9;"), (4.9, "load 4.9 (busy: its times are too long);")],
)
def test_a_result_of_a_busy_machine_says_that_its_times_are_too_long(average, text):
    hardware = PROVENANCE["hardware"] | {"load_average_1min": average, "cores": 2}
    assert text in report.source(PROVENANCE | {"hardware": hardware})


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median - 0.01, "max": median + 0.01}


def step_rows(lorakit: float) -> list[dict[str, Any]]:
    ratios = {"lorakit": spread(lorakit), "peft": spread(1.6), "peft / lorakit": spread(1.5)}
    return [
        {"model": "MiniLM-L6", "targets": targets, "dtype": dtype, **ratios}
        for targets in ("q and v", "all linear")
        for dtype in ("float32", "bfloat16")
    ]


def operation_rows(faster: tuple[float, ...] = (1.5, 1.5, 1.5)) -> list[dict[str, Any]]:
    """By how much than PEFT, at 1, 32 and 2,048 tokens."""
    cell = {"rank": 8, "dtype": "float32", "lorakit": spread(1.1), "peft": spread(1.6)}
    return [
        {"tokens": t, **cell, "width": w, "dropout": p, "peft / lorakit": spread(ratio)}
        for t, ratio in zip((1, 32, 2048), faster, strict=True)
        for w in (384, 768)
        for p in (0.0, 0.1)
    ]


def kept_rows() -> list[dict[str, Any]]:
    return [
        {"dtype": "float32", "dropout": dropout, "library": library, "kept": kept, "alive": 0.0}
        for dropout in (0.0, 0.1)
        for library, kept in (("frozen", 0.0), ("peft", 6.03), ("lorakit", 1.0))
    ]


def review_rows() -> list[dict[str, Any]]:
    names = ("PEFT, transformers.Trainer", "lorakit, fp32", "lorakit")
    speed = {"times faster": spread(2.6), "than with lorakit's settings": spread(1.2)}
    common = {"dtype": "fp32", "accuracy": spread(0.86), "seconds": spread(100.0), **speed}
    means = (0.86, 0.85, 0.855)
    return [{"variant": n, "mean accuracy": m, **common} for n, m in zip(names, means, strict=True)]


def plan_rows(predicted: float) -> list[dict[str, Any]]:
    others = {"measured": 100.0, "process": 120.0, "estimate-memory": 363.0}
    others |= {"4 x weights": 363.0}
    return [
        {"predicted": value, "predicted / measured": value / 100, **others}
        for value in (99.0, 101.0, 100.0, predicted)
    ]


ROWS = {
    "training_step": step_rows(1.02),
    "operation": operation_rows(),
    "kept_bytes": kept_rows(),
    "reviews": review_rows(),
    "planned_peaks": plan_rows(104.0),
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, rows in ROWS.items():
        result = {"benchmark": name, "title": f"Title of {name}", "provenance": PROVENANCE}
        text = json.dumps({**result, "conditions": {"held": "fixed"}, "rows": rows})
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_report_has_a_table_a_picture_and_a_source_for_each(results):
    text = report.write(results).read_text(encoding="utf-8")
    missing = ", ".join(name for name in NAMES if name not in ROWS)
    assert f"Without a result here: {missing}." in text
    assert text.count("2026-01-02, commit 0123456789ab, a processor, 2 threads") == len(ROWS)
    for name in ROWS:
        assert f"### {name}\n\nTitle of {name}\n\n![Title of {name}]({name}.svg)" in text
        assert (results / f"{name}.svg").stat().st_size < 100_000
    assert "| MiniLM-L6 | q and v | float32 | 1.02 (1.01 to 1.03) |" in text


def test_equal_results_give_equal_bytes(results):
    def everything() -> dict[str, bytes]:
        report.write(results)
        return {path.name: path.read_bytes() for path in results.iterdir()}

    assert everything() == everything()


def test_another_device_has_a_part_of_its_own(results):
    (results / "operation.json").rename(results / "operation-cuda0.json")
    text = report.write(results).read_text(encoding="utf-8")
    assert text.index("## On cpu") < text.index("## On cuda0") < text.index("### operation")


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {row["goal"]: row["reached"] for row in goals.table(results)}


def test_goals_are_judged_by_the_results():
    found = verdicts({name: {"rows": rows} for name, rows in ROWS.items()})
    assert found == {goal.name: "yes" for goal in GOALS if goal.benchmark in ROWS}
    assert verdicts({}) == {}


@pytest.mark.parametrize(
    ("ratio", "reached"), [(1.03, "yes"), (1.0349, "yes"), (1.036, "no"), (1.2, "no")]
)
def test_a_goal_is_compared_as_it_is_printed(ratio, reached):
    found = verdicts({"training_step": {"rows": step_rows(ratio)}})
    assert found["MiniLM, step over floor: q, v, fp32"] == reached


def test_a_bound_from_below():
    rows = review_rows()
    rows[-1]["times faster"] = spread(2.4)
    found = verdicts({"reviews": {"rows": rows}})
    assert found["reviews: times faster than PEFT, Trainer's defaults"] == "no"
    assert found["reviews: times faster than PEFT with lorakit's settings"] == "yes"


def test_a_goal_that_is_not_reached_is_explained(results):
    assert "Why one is not reached" not in report.write(results).read_text(encoding="utf-8")
    path = results / "training_step.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "rows": step_rows(1.2)}), encoding="utf-8")
    assert "Why one is not reached" in report.write(results).read_text(encoding="utf-8")


def test_dropout_is_judged_by_the_number_of_tokens():
    found = verdicts({"operation": {"rows": operation_rows((0.6, 0.9, 1.5))}})
    assert list(found.values()) == ["yes", "no", "no"]


@pytest.mark.parametrize(("lead", "reached"), [(0.06, "yes"), (0.03, "no")])
def test_a_lead_over_the_head_is_counted_in_standard_errors(lead, reached):
    common = {"method": "head", "LoRA ahead by": lead, "standard error": 0.02}
    found = verdicts({"glue": {"rows": [{"task": t, **common} for t in ("sst2", "mrpc")]}})
    assert list(found.values()) == [reached, reached]


@pytest.mark.parametrize(("after", "reached"), [(0.31, "yes"), (0.29, "no")])
def test_bleu_is_counted_from_the_bases(after, reached):
    scores = {"base": 0.1, "peft": 0.4, "lorakit": after}
    rows = [
        {"variant": n, "measure": "bleu", "value": {"median": v, "min": v, "max": v}}
        for n, v in scores.items()
    ]
    (row,) = goals.table({"data_to_text": {"rows": rows}})
    assert row["reached"] == reached
    assert row["peft"] == pytest.approx(0.3)


def test_decoding_has_two_goals():
    names = ("one row a reference padded to 512", "generate in file order")
    rows = [{"measure": f"times faster than {name}", "value": 2.0} for name in names]
    assert list(verdicts({"data_to_text_speed": {"rows": rows}}).values()) == ["no", "yes"]


def test_plans_are_judged_by_how_many_hold_and_by_the_worst():
    found = list(goals.table({"planned_peaks": {"rows": plan_rows(94.0)}}))
    assert [row["lorakit"] for row in found] == [0.75, pytest.approx(6)]
    assert [row["reached"] for row in found] == ["no", "no"]
