"""The formulas beside two real processes on gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lorakit.planner.bases import model_on_meta
from lorakit.planner.planning import plan_step
from lorakit.planner.recording import BASE, GRADIENTS, STATE, TRAINED
from tests.planner.devices.models import SMALL, cells

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Of each cell what each of two processes holds."""
    directory = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.planner.devices.worker", str(directory)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def planned():
    return {name: plan_step(model_on_meta(SMALL), one).device for name, one in cells().items()}


@pytest.mark.parametrize("cell", cells())
def test_kept_bytes_are_those_of_the_fullest_process(cell, measured, planned):
    held = {name: max(rank[cell][name] for rank in measured) for name in (BASE, TRAINED, STATE)}
    assert {name: planned[cell].bytes_by[name] for name in held} == held
    whole = 4 * 166 * 48 if cell == "full_tp" else 0  # the other half of the embedding's, not cut
    assert measured[0][cell][GRADIENTS] == held[TRAINED] + whole


# Not of tp: on gloo its collectives hold their tensors until a thread of theirs has ended.
@pytest.mark.parametrize("cell", [name for name, one in cells().items() if one.parallel != "tp"])
def test_peak_is_at_most_the_formulas_and_near_it(cell, measured, planned):
    peak = max(rank[cell]["peak"] for rank in measured)
    assert 0.999 * peak <= planned[cell].peak_bytes <= 1.05 * peak
