"""What a change costs in time, from arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorakit.planner.relative_time import relative_time
from lorakit.planner.settings import StepSettings

ASKED = StepSettings(batch=64, length=4096)


@pytest.mark.parametrize(("trained", "time"), [(0, 3 / 2), (1, 4 / 3)])
def test_checkpointing_costs_a_forward(trained, time):
    assert relative_time(replace(ASKED, checkpointing=True), ASKED, trained) == pytest.approx(time)


def test_each_micro_batch_has_a_price():
    four = replace(ASKED, token_budget=16 * 4096)
    sixteen = replace(ASKED, token_budget=4 * 4096)
    costs = [relative_time(step, ASKED, 0) - 1 for step in (four, sixteen)]
    assert 0 < costs[0] < 0.01
    assert costs[1] == pytest.approx(costs[0] * 15 / 3)


def test_quantised_base_costs_a_copy_for_each_micro_batch():
    nf4 = replace(ASKED, quantised="nf4")
    assert 1 < relative_time(nf4, ASKED, 0) < 1.01
    small = replace(ASKED, token_budget=4096)
    assert relative_time(replace(small, quantised="nf4"), small, 0) > 1.03


def test_shorter_rows_are_less_work():
    assert relative_time(replace(ASKED, length=1024), ASKED, 0) == pytest.approx(1 / 4, rel=0.01)
