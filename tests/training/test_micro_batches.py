"""Steps hold what they should, and the cut of a step is the cheapest one."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lorakit.tasks.batching import cut, length
from lorakit.training.micro_batches import MicroBatches, StepLoader, StepSampler

sizes = st.integers(1, 60)
batches = st.integers(1, 12)
seeds = st.integers(0, 5)


def epoch_of(sampler: StepSampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@given(size=sizes, total=batches, seed=seeds, epoch=st.integers(0, 3))
def test_each_epoch_sees_every_example_once_in_steps_of_one_size(size, total, seed, epoch):
    steps = epoch_of(StepSampler(size, total, seed), epoch)
    assert sorted(i for step in steps for i in step) == list(range(size))
    assert sorted(map(len, steps))[1:] == [total] * (len(steps) - 1)
    assert len(steps) == len(StepSampler(size, total, seed)) == -(-size // total)


@given(size=sizes, total=batches, seed=seeds)
def test_steps_are_the_same_in_each_epoch_and_their_order_is_not(size, total, seed):
    sampler = StepSampler(size, total, seed)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert sorted(first) == sorted(second)
    assert epoch_of(sampler, 0) == first


def test_the_order_is_shuffled_by_seed_and_epoch():
    orders = [epoch_of(StepSampler(64, 4, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for a, b in combinations(orders, 2))
    assert sorted(orders[0]) != sorted(orders[2])


@given(size=sizes, total=batches, seed=seeds, world=st.integers(1, 4))
def test_processes_share_each_step(size, total, seed, world):
    whole = epoch_of(StepSampler(size, total, seed), 1)
    parts = [epoch_of(StepSampler(size, total, seed, rank, world), 1) for rank in range(world)]
    for step, *shares in zip(whole, *parts, strict=True):
        assert sorted(i for share in shares for i in share) == sorted(step)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def cost(lengths: list[int], cuts: list[tuple[int, int]], overhead: int) -> int:
    return sum((j - i) * max(lengths[i:j]) + overhead for i, j in cuts)


def all_cuts(size: int) -> list[list[tuple[int, int]]]:
    places = range(1, size)
    chosen = [c for n in range(size) for c in combinations(places, n)]
    return [list(zip((0, *c), (*c, size), strict=True)) for c in chosen]


def fits(lengths: list[int], cuts: list[tuple[int, int]], budget: int) -> bool:
    return all((j - i) * max(lengths[i:j]) <= budget or j - i == 1 for i, j in cuts)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=9).map(sorted),
    budget=st.integers(1, 120),
    overhead=st.integers(0, 40),
)
def test_the_cut_is_the_cheapest_of_all(lengths, budget, overhead):
    found = cut(lengths, budget, overhead)
    assert found in all_cuts(len(lengths))
    assert fits(lengths, found, budget)
    allowed = [c for c in all_cuts(len(lengths)) if fits(lengths, c, budget)]
    assert cost(lengths, found, overhead) == min(cost(lengths, c, overhead) for c in allowed)


def test_nothing_needs_no_cut():
    assert cut([], 100) == []


def lengths_of(examples: list[Any]) -> Any:
    return [length(example) for example in examples]


def test_micro_batches_keep_each_example_once_and_go_from_short_to_long():
    examples = [{"input_ids": [0] * n} for n in (9, 2, 30, 3, 2, 10)]
    batches = MicroBatches(lengths_of, token_budget=40)(examples)["micro_batches"]
    assert [n for batch in batches for n in batch] == [2, 2, 3, 9, 10, 30]
    assert all(len(batch) * max(batch) <= 40 for batch in batches)


def test_the_length_of_choices_is_that_of_all_padded():
    assert length({"input_ids": [[1, 2], [1, 2, 3]]}) == 6
    assert length({"input_ids": []}) == 0


def test_the_loader_tells_its_sampler_the_epoch():
    sampler = StepSampler(8, 2)
    loader = StepLoader(range(8), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
    loader.set_epoch(3)
    assert sampler.epoch == 3
    assert list(loader) == epoch_of(StepSampler(8, 2), 3)
