"""A run says what memory its steps will take, before the first of them."""

from __future__ import annotations

import json
import re

import pytest
import torch

from lorakit.errors import PlanError
from lorakit.text import size_text
from lorakit.training import largest_step, memory_plan, train
from lorakit.training.micro_batches import largest_batch
from tests.training import tiny


@pytest.fixture
def run(encoder, reviews, tmp_path):
    """Trains the tiny encoder; gives the result and what was said."""

    def make(**training):
        said: list[str] = []
        training = {"max_steps": 1, **training}
        recipe = tiny.recipe(encoder, reviews, tmp_path, method="full", training=training)
        return train(recipe, said.append), [line for line in said if line.startswith("memory:")]

    return make


def test_line_comes_before_training_and_the_result_has_both_peaks(run, tmp_path):
    result, (line,) = run()
    assert "predicted at the peak of a step, for 4 x 16 tokens" in line
    assert 0 < result.planned_peak_bytes < result.peak_memory_bytes
    written = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert written["planned_peak_bytes"] == result.planned_peak_bytes


def test_too_little_memory_is_said_with_what_is_enough(run, monkeypatch):
    needed = []
    beside = memory_plan._beside_weights
    monkeypatch.setattr(
        memory_plan, "_beside_weights", lambda plan: needed.append(beside(plan)) or needed[-1]
    )
    monkeypatch.setattr(memory_plan, "_SECONDS", 600.0)
    monkeypatch.setattr(memory_plan, "available_memory", lambda: needed[0] - 1)
    result, (_, warning) = run(dtype="fp32", token_budget=64)
    assert f"{size_text(needed[0] - 1)} are available; enough is training.token_budget" in warning
    assert "(now 64)" in warning
    assert min(needed) < needed[0]
    assert result.steps == 1


def test_memory_that_nothing_is_enough_for_is_said_with_the_least(run, monkeypatch):
    monkeypatch.setattr(memory_plan, "_SECONDS", 600.0)
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 1000)
    _, (_, warning) = run(dtype="fp32")
    assert "1.0 kB are available; the least that was found is" in warning
    assert warning.endswith("set training.dtype to bf16, or shorten rows by data.max_length")


def test_what_to_change_is_named_where_planning_it_takes_too_long(run, monkeypatch):
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 1000)

    def too_slow(*_):
        raise PlanError("Planning takes longer than 10 s.")

    monkeypatch.setattr(memory_plan, "advice", too_slow)
    _, (_, warning) = run(dtype="bf16", gradient_checkpointing=True, token_budget=64)
    assert warning.endswith(
        "; lower training.token_budget (now 64), or shorten rows by data.max_length"
    )


def test_what_planning_a_change_raised_is_named(run, monkeypatch):
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 1000)

    def fails(*_):
        raise KeyError("rows")

    monkeypatch.setattr(memory_plan, "advice", fails)
    result, (_, warning) = run(dtype="bf16", gradient_checkpointing=True, token_budget=64)
    assert "; lower training.token_budget (now 64), or shorten rows" in warning
    assert warning.endswith("not tried, as a step cannot run without values: KeyError: 'rows'")
    assert result.steps == 1


def test_run_whose_plan_takes_too_long_trains_and_says_so(run, monkeypatch):
    monkeypatch.setattr(memory_plan, "_SECONDS", 0.0)
    result, (line,) = run()
    assert line.startswith("memory: not predicted. Planning takes longer than 0 s. sum, by formula")
    assert result.planned_peak_bytes is None
    assert result.steps == 1


def test_run_that_cannot_be_planned_trains_and_says_so(run, monkeypatch):
    monkeypatch.setattr(largest_step, "fake_batch", lambda batch: batch)  # values among fakes
    result, (line,) = run()
    reason = "memory: not predicted, as a step cannot run without values: "
    assert re.match(rf"{reason}\w+: .", line)
    assert result.planned_peak_bytes is None


def test_planning_draws_no_random_number(run, monkeypatch):
    before = []
    planned = largest_step.record_prepared

    def seen(*args, **kwargs):
        before.append(torch.get_rng_state())
        return planned(*args, **kwargs)

    monkeypatch.setattr(largest_step, "record_prepared", seen)
    monkeypatch.setattr(
        "lorakit.training.run.baseline_of", lambda run: before.append(torch.get_rng_state())
    )
    run()
    assert torch.equal(*before)


@pytest.mark.parametrize(
    ("lengths", "rows", "budget", "found"),
    [
        ([5, 3, 4], 2, 100, [0, 2]),
        ([10, 900, 500, 450], 4, 1000, [2, 3]),
        ([2000, 3], 2, 1000, [0]),
        ([7], 8, 100, [0]),
    ],
)
def test_largest_micro_batch_is_within_the_budget(lengths, rows, budget, found):
    assert largest_batch(lengths, rows, budget) == found
