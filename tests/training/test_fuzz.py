"""Whatever happens to a run, the same command ends with the weights of one left in peace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs.damage import DAMAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Fuzz = Callable[[str, int], list[dict[str, Any]]]


@pytest.fixture
def fuzz(encoder: Path, reviews: Path, tmp_path: Path) -> Fuzz:
    """Runs so many cases of one kind; fails unless each ends with the right weights."""

    def run(kind: str, count: int) -> list[dict[str, Any]]:
        worker = Path(__file__).with_name("fuzz_worker.py")
        command = [sys.executable, str(worker), str(encoder), str(reviews), str(tmp_path)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [*command, kind, str(count)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        outcomes: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        assert len(outcomes) == count
        bad = [o for o in outcomes if o["then"] != 0 or not o["equal"] or o.get("code") == 2]
        assert not bad, (bad, done.stderr[-3000:])
        return outcomes

    return run


def test_runs_killed_at_random_moments_go_on(fuzz):
    outcomes = fuzz("kill", 20)
    assert len({outcome["newest"] for outcome in outcomes}) > 3, "moments all over the run"


def test_runs_with_a_damaged_checkpoint_go_on_from_a_whole_one(fuzz):
    outcomes = fuzz("damage", len(DAMAGES))
    assert len({outcome["kind"] for outcome in outcomes}) == 49
    assert all(outcome["told"] for outcome in outcomes), outcomes


def test_of_two_runs_at_once_one_is_refused_and_the_other_is_whole(fuzz):
    outcomes = fuzz("two_at_once", 40)
    for outcome in outcomes:
        assert 2 not in outcome["codes"], outcome
        assert outcome["refused"] == (1 in outcome["codes"]), outcome
    assert Counter(1 in outcome["codes"] for outcome in outcomes)[True] > 20, "most met"


def test_runs_whose_files_cannot_grow_say_so_and_go_on(fuzz):
    outcomes = fuzz("full_disk", 40)
    assert sum(outcome["code"] == 1 for outcome in outcomes) > 30, outcomes


def test_runs_whose_output_is_deleted_say_so_and_begin_anew(fuzz):
    outcomes = fuzz("deleted", 20)
    assert sum(outcome["code"] == 1 for outcome in outcomes) > 10, outcomes
