"""A step's time by measured rates."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import LlamaConfig

import lorakit as lora
from lorakit.planner import rates
from lorakit.planner.arithmetic import Operation, Work

SMALL = LlamaConfig(
    hidden_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64, intermediate_size=64
)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(rates, "product_rate", lambda dtype, flops: {torch.float32: 100.0}[dtype])
    monkeypatch.setattr(rates, "bandwidth", lambda: 10.0)
    monkeypatch.setattr(rates, "random_rate", lambda: 4.0)
    monkeypatch.setattr(rates, "least_seconds", lambda: 0.5)


@pytest.mark.parametrize(
    ("flops", "nbytes", "drawn", "dtype", "seconds"),
    [
        (1000, 10, 0, torch.float32, 10.0),
        (1000, 400, 0, torch.float32, 40.0),
        (0, 0, 0, torch.float32, 0.5),
        (0, 20, 0, torch.int64, 2.0),
        (0, 20, 12, torch.float32, 3.0),
    ],
)
def test_operation_takes_the_longest_of_its_times(known, flops, nbytes, drawn, dtype, seconds):
    work = Work(Counter({Operation(flops, nbytes, drawn, dtype): 3}))
    assert rates.seconds_of(work) == 3 * seconds


def test_rates_are_measured_once():
    def all_rates() -> list[float]:
        products = [rates.product_rate(torch.float32, flops) for flops in (1, 10**7, 10**8)]
        return [*products, rates.bandwidth(), rates.random_rate(), rates.least_seconds()]

    first = all_rates()
    assert all_rates() == first
    assert min(first) > 0


def test_products_that_take_long_are_not_measured(monkeypatch):
    sizes = []

    def slow(run):
        sizes.append(len(run.args[0]))
        return 2 * sizes[-1] ** 3 / 1e7

    monkeypatch.setattr(rates, "_median", slow)
    rates._square_rate.cache_clear()
    try:
        assert rates.product_rate(torch.float16, 10**15) == 1e7
    finally:
        rates._square_rate.cache_clear()
    assert sizes == [64]


def test_estimate_grows_with_the_step():
    small, large = (lora.plan(SMALL, "full", batch=n, length=64, dtype="fp32") for n in (1, 64))
    assert 0 < small.seconds_per_step < large.seconds_per_step
    assert small.seconds_per_step == small.seconds_per_step


def test_micro_batches_take_their_time_each_and_the_optimizer_once(monkeypatch):
    monkeypatch.setattr("lorakit.planner.plan.seconds_of", lambda work: 1.0)
    plan = lora.plan(SMALL, "full", batch=8, length=16, token_budget=32)
    assert plan.seconds_per_step == 4 * 2 + 2
