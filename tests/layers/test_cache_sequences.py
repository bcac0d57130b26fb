"""Random sequences of what programs do, against the definition in float64.

A failure prints the sequence, already shortened, as a call of `replay`.
"""

from __future__ import annotations

import random

import pytest
import torch

from lorakit.surgery.disabling import here
from tests.layers.cache_world import (
    KINDS,
    LOOKS,
    OTHERS,
    STEPS,
    WRITES,
    World,
    look,
    look_through_compiled_code,
)

Sequence = list[tuple[str, int]]


def replay(kind: str, sequence: Sequence) -> None:
    """Run the steps on a new layer, and look in the end."""
    world = World(kind)
    try:
        for name, seed in sequence:
            torch.manual_seed(seed)
            STEPS[name](world, random.Random(seed))
        world.close()
        world.off = 0
        world.model.eval()
        look(world, random.Random(0))
        assert here.disabled == ()
    finally:
        world.close()


def failure(kind: str, sequence: Sequence) -> str | None:
    try:
        replay(kind, sequence)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def shortened(kind: str, sequence: Sequence) -> Sequence:
    """Without each step that the failure does not need."""
    for step in reversed(list(sequence)):
        rest = [other for other in sequence if other is not step]
        if failure(kind, rest) is not None:
            sequence = rest
    return sequence


def drawn(draw: random.Random, compiled: bool) -> Sequence:
    looks = [look_through_compiled_code] * 2 if compiled else []
    groups = [WRITES, [*LOOKS, *looks], OTHERS]
    chosen = [draw.choice(draw.choice(groups)) for _ in range(draw.randint(4, 24))]
    return [(step.__name__, draw.randrange(2**31)) for step in chosen]


def run_sequences(count: int, first: int = 0, compiled: bool = False) -> int:
    """How many sequences ran; raises with the first that gave a wrong output."""
    kinds = list(KINDS)
    done = 0
    for number in range(first, first + count):
        draw = random.Random(number)
        kind, sequence = draw.choice(kinds), drawn(draw, compiled)
        if compiled:
            torch._dynamo.reset()
        message = failure(kind, sequence)
        if message is not None:
            short = shortened(kind, sequence)
            raise AssertionError(
                f"sequence {number}: {failure(kind, short) or message}\nreplay({kind!r}, {short!r})"
            )
        done += 1
    return done


def test_some_sequences_give_the_output_of_the_definition() -> None:
    assert run_sequences(15) == 15


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 4_000, 500))
def test_random_sequences_give_the_output_of_the_definition(first: int) -> None:
    assert run_sequences(500, first) == 500


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100_000, 100_150, 30))
def test_random_sequences_of_compiled_code_give_it_too(first: int) -> None:
    assert run_sequences(30, first, compiled=True) == 30


def test_a_sequence_of_each_step_runs() -> None:
    """So that no step fails before it has done anything."""
    for number, name in enumerate(STEPS):
        kind = list(KINDS)[number % len(KINDS)]
        replay(kind, [(name, 1), ("look", 0), (name, 2)])
