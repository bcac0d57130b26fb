"""The page of the paper's comparison: verdicts by the rule, tables from the result files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy.stats import ttest_ind

from benchmarks.comparison import claims, keeping
from benchmarks.comparison.claims import CLAIMS, Claim, answer, difference
from benchmarks.comparison.keeping import RESULTS, keep, read
from benchmarks.comparison.page import PAGE, SECTION_SEVEN, SWEEPS, filled
from lorakit.experiments.sweep_file import load_sweep, planned
from lorakit.recipe_files import sweep_files

ONE = [{"task": "one", "metric": "accuracy"}, {"task": "one", "metric": "f1"}]


def table(rows: Mapping[str, Sequence[Sequence[float]]], columns: Any = ONE) -> Any:
    """Values of each row by column."""
    found = [
        {"name": name, "cells": [{"values": list(values)} for values in cells], "sources": ["/a/b"]}
        for name, cells in rows.items()
    ]
    return {"columns": columns, "rows": found}


def of_two(one: Sequence[float], other: Sequence[float]) -> Any:
    return table({"a": [one, [0.0, 0.0]], "b": [other, [1.0, 1.0]]})


def test_the_interval_is_welchs_of_the_first_metric():
    one, other = [0.70, 0.72, 0.74], [0.60, 0.62, 0.67]
    found = difference(of_two(one, other), "a", "b")
    assert found is not None
    interval = ttest_ind(one, other, equal_var=False).confidence_interval()
    assert found.mean == pytest.approx(9.0)
    assert (found.low, found.high) == pytest.approx((100 * interval.low, 100 * interval.high))


def test_tasks_are_averaged_and_their_variances_add_up():
    columns = [{"task": task, "metric": "accuracy"} for task in ("one", "two")]
    rows = {"a": [[0.70, 0.72], [0.80, 0.82]], "b": [[0.70, 0.70], [0.79, 0.79]]}
    found = difference(table(rows, columns), "a", "b")
    assert found is not None
    assert found.mean == pytest.approx(1.5)
    half = 4.302652729911275 * (2 * 2e-4 / 2 / 4) ** 0.5 * 100  # two degrees of freedom
    assert found.high - found.mean == pytest.approx(half)


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([0.900, 0.901, 0.902], [0.880, 0.881, 0.882], "held"),
        ([0.880, 0.881, 0.882], [0.881, 0.882, 0.883], "held"),  # worse, by less than the margin
        ([0.880, 0.881, 0.882], [0.900, 0.901, 0.902], "not held"),
        ([0.900, 0.850, 0.950], [0.880, 0.890, 0.870], "undecided"),
        ([0.9], [0.8], "undecided"),
        ([0.9, 0.9], [0.9, 0.9], "held"),
    ],
)
def test_the_rule_decides_a_pair(one, other, verdict):
    claim = Claim("a as well as b", "x", [("a", "b")])
    assert answer(claim, of_two(one, other))[0] == verdict


def test_a_row_that_was_not_run_leaves_a_claim_undecided():
    found = of_two([0.9, 0.9], [0.8, 0.8])
    for pair in (("a", "c"), ("c", "a"), ("c", "d")):
        assert answer(Claim("", "", [pair]), found) == ("undecided", {pair: "undecided"})


def test_a_claim_holds_only_if_all_its_pairs_do():
    rows = {"a": [0.80, 0.81], "b": [0.70, 0.71], "c": [0.90, 0.91], "d": [0.85, 0.75]}
    found = table({name: [values, values] for name, values in rows.items()})
    for others, verdict in ((("b",), "held"), (("b", "c"), "not held"), (("b", "d"), "undecided")):
        assert answer(Claim("", "", [("a", o) for o in others]), found)[0] == verdict


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.sentence)
def test_a_claim_speaks_of_rows_of_its_sweep(claim):
    plan = planned(load_sweep(sweep_files()[claim.result]))
    assert {name for pair in claim.pairs for name in pair} <= {v.name for v in plan.variants}


def test_a_sweep_is_kept_without_places_and_stands_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(
        keeping.provenance, "describe", lambda settings: json.loads(json.dumps(PROVENANCE))
    )
    run = tmp_path / "run"
    run.mkdir()
    names = [name for c in CLAIMS if c.result == "minilm-rank" for p in c.pairs for name in p]
    rows = {name: [[0.8, 0.81], [0.8, 0.81]] for name in names}
    (run / "table.json").write_text(json.dumps(table(rows)))
    (run / "table.md").write_text("| the | table |\n")
    (run / "sweep.yaml").write_text("base: /home/me/models/MiniLM\nsource: https://a.org/b/c\n")
    file = keep("minilm-rank", run, tmp_path / "results")
    assert "/a/b" not in file.read_text("utf-8")
    kept = json.loads(file.read_text("utf-8"))
    assert kept["sweep"] == "base: MiniLM\nsource: https://a.org/b/c\n"
    assert kept["provenance"]["command"] == "lorakit compare minilm-rank"
    page = filled(PAGE.read_text("utf-8"), read(tmp_path / "results"))
    assert (
        "<!-- begin: minilm-rank -->\n\n| the | table |\n\n`lorakit compare minilm-rank`, 2026"
        in page
    )
    (line,) = [line for line in page.splitlines() if line.startswith("| rank saturates")]
    assert "Wq Wv, lora.r=4 over Wq Wv, lora.r=64 +0.00" in line


def test_latency_stands_on_the_page_by_candidate_and_batch():
    cells = [
        {
            "candidate": name,
            "batch": 1,
            "length": 64,
            "milliseconds": {"median": 1234.5},
            "slowdown": {"median": ratio, "low": ratio - 0.01, "high": ratio + 0.02},
        }
        for name, ratio in (("base", 1.0), ("Houlsby", 1.21))
    ]
    result = {"table": {"cells": cells}, "provenance": PROVENANCE}
    page = filled(PAGE.read_text("utf-8"), {"latency": result})
    assert "| base | 1,234 ms |" in page
    assert "| Houlsby | +21.0 (+20.0 to +23.0) |" in page


def test_section_seven_stands_on_the_page_by_adapter_and_measure():
    spread = {"median": 0.5, "min": 0.25, "max": 0.75}
    rows = [
        {"adapters": "r 8", "matrices": kind, "measure": m, "value": spread, "by chance": 0.17}
        for kind in ("query", "value")
        for m in ("phi(1, 64) of A", "phi(1, 64) of dW, input")
    ]
    page = filled(
        PAGE.read_text("utf-8"), {SECTION_SEVEN: {"rows": rows, "provenance": PROVENANCE}}
    )
    cells = "0.5 (0.25 to 0.75) | 0.17"
    assert f"| r 8 | phi(1, 64) of A | {cells} | {cells} |" in page
    assert "| phi(1, 64) of dW, input |" not in page


def test_the_committed_page_is_made_of_the_committed_results():
    text = PAGE.read_text("utf-8")
    assert filled(text, read(RESULTS)) == text


def test_what_is_not_measured_is_said():
    page = filled(PAGE.read_text("utf-8"), {})
    assert page.count("Not measured yet.") == len(SWEEPS) + 2
    assert page.count(f"**{claims.UNMEASURED}**") == len(CLAIMS)


PROVENANCE = {
    "command": "lorakit compare",
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "date": "2026-01-02T03:04:05+00:00",
    "hardware": {"cpu": "a processor", "torch_threads": 2, "load_average_1min": 0.1},
    "versions": {"torch": "2.13.0"},
}
