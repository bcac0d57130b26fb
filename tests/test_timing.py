from __future__ import annotations

from collections import Counter
from statistics import median
from types import SimpleNamespace

import pytest
import torch

from lorakit import timing


def test_every_candidate_runs_as_often(monkeypatch):
    monkeypatch.setattr(timing, "CALL_SECONDS", 1e-4)
    runs = Counter()
    candidates = {name: lambda name=name: runs.update(name) for name in "ab"}
    times = timing.interleave(candidates, "cpu", seconds=0.01)
    assert runs["a"] == runs["b"] > len(times["a"])
    assert 5 <= len(times["a"]) == len(times["b"]) <= timing.MOST_ROUNDS


def test_a_candidate_runs_once_before_it_is_timed_in_an_order_that_changes(monkeypatch):
    events = []
    monkeypatch.setattr(timing, "CALL_SECONDS", 0)
    monkeypatch.setattr(timing, "measure", lambda run, calls, device: events.append("timed") or 1.0)
    candidates = {name: lambda name=name: events.append(name) for name in "abcd"}
    timing.interleave(candidates, "cpu", seconds=0)
    sequence = events[2 * len(candidates) :]  # two runs of each go before the rounds
    runs, timed = sequence[::2], sequence[1::2]
    orders = {tuple(runs[start : start + 4]) for start in range(0, len(runs), 4)}
    assert set(timed) == {"timed"}
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(orders) > 1


def test_interleave_sees_the_slower_one():
    candidates = {"small": lambda: sum(range(10)), "large": lambda: sum(range(300))}
    times = timing.interleave(candidates, "cpu", seconds=0.1)
    ratios = [one / other for one, other in zip(times["large"], times["small"], strict=True)]
    assert median(ratios) > 2


def test_a_device_is_timed_by_its_own_clock(monkeypatch):
    said: list[str] = []
    begin = SimpleNamespace(record=lambda: said.append("begin"), elapsed_time=lambda end: 20.0)
    end = SimpleNamespace(
        record=lambda: said.append("end"), synchronize=lambda: said.append("wait")
    )
    events = iter([begin, end])
    monkeypatch.setattr(torch, "Event", lambda *_, **__: next(events))
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    assert timing.measure(lambda: said.append("call"), 2, "cuda") == pytest.approx(0.010)
    assert said == ["begin", "call", "call", "end", "wait"]


def test_a_long_call_is_its_own_warm_up(monkeypatch):
    runs = Counter()
    monkeypatch.setattr(timing, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(timing, "measure", lambda run, calls, device: run() or 1.0)
    times = timing.interleave({"a": lambda: runs.update("a")}, "cpu", seconds=0)
    assert runs["a"] == 1 + len(times["a"])
