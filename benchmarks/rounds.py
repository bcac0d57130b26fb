"""Rounds of candidates: the order of their turns, and times as ratios within a round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.registry import Spread, spread
from lorakit.timing import Times


def turning(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """The names once a round, each round starting one further.

    >>> list(turning(["a", "b"], 3))
    [['a', 'b'], ['b', 'a'], ['a', 'b']]
    """
    for turn in range(rounds):
        start = turn % len(names)
        yield [*names[start:], *names[:start]]


def over(times: Times, name: str, base: str) -> Spread:
    """Time of one candidate over that of another, in the same round."""
    return spread([one / other for one, other in zip(times[name], times[base], strict=True)])
