"""The benchmark of plans: its cells, its counter, and that it goes on where it was stopped."""

from __future__ import annotations

import ast
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import allocations, planned_peaks, planned_peaks_cells, planned_peaks_worker
from benchmarks.gpu import records
from benchmarks.planned_peaks_cells import CELLS, QUICK
from benchmarks.registry import Settings

REAL = {"allocated": 100, "process": 150, "beside": 40}


def test_cells_are_every_combination():
    assert len(CELLS) == len(set(CELLS)) == 4 * 4 * 2 * 2 * 2


def test_what_was_measured_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(planned_peaks, "DONE", tmp_path / "cells.jsonl")
    write = records.writer(planned_peaks.DONE)
    for cell in QUICK:
        write("cell", (asdict(cell), REAL))
    known = planned_peaks.done()
    assert dict(planned_peaks.real_steps(QUICK, known, keep=True)) == dict.fromkeys(QUICK, REAL)
    assert planned_peaks.done() == known


@pytest.mark.parametrize("module", [planned_peaks_worker, planned_peaks_cells, allocations])
def test_real_steps_know_nothing_of_the_planner(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith("lorakit.planner") for name in names if name)


def test_memory_inside_an_operation_is_counted():
    """torch compares 16-bit integers into bfloat16 through a copy in their type."""
    x, out = torch.zeros(4096, dtype=torch.int16), torch.empty(4096, dtype=torch.bfloat16)
    assert allocations.highest(lambda: torch.ge(x, 0, out=out)) >= x.nbytes


@pytest.mark.parametrize("model", ["MiniLM-L6", "SmolLM2-135M"])
def test_rules_of_thumb_are_those_of_their_sources(model):
    weights = planned_peaks.weights(model)
    assert round(weights / 4e6) == {"MiniLM-L6": 23, "SmolLM2-135M": 135}[model]
    headless = planned_peaks.estimated(model, "fp32")
    assert headless == pytest.approx(4 * weights, rel=0.01)
    assert planned_peaks.estimated(model, "bf16") == headless // 2


@pytest.mark.slow
def test_quick_rows_are_close(tmp_path, monkeypatch):
    monkeypatch.setattr(planned_peaks, "DONE", tmp_path / "cells.jsonl")
    found = list(planned_peaks.rows(Settings(quick=True)))
    assert all(row["predicted / measured"] == pytest.approx(1, abs=0.05) for row in found)
    assert not planned_peaks.DONE.exists()
