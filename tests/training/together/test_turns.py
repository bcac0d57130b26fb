"""Work that takes turns: one at a time, in the same order, and what becomes of errors."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from lorakit.errors import ConfigError, TrainingError
from lorakit.training.together.turns import Ask, Stopped, take_turns


def squares(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number**2 for name, number in asked.items()}


def test_each_gets_its_answers_and_ends_when_it_ends() -> None:
    def work(count: int) -> Any:
        return lambda ask: [ask(n) for n in range(count)]

    found = take_turns({"three": work(3), "none": work(0), "one": work(1)}, squares)
    assert found == {"three": [0, 1, 4], "none": [], "one": [0]}
    assert list(found) == ["three", "none", "one"]


def test_they_run_one_at_a_time_in_order() -> None:
    seen: list[str] = []
    running: list[str] = []

    def work(name: str) -> Any:
        def run(ask: Ask) -> None:
            for _ in range(3):
                running.append(name)
                seen.append(name)
                assert running == [name]
                running.remove(name)
                ask(0)

        return run

    take_turns({name: work(name) for name in "abc"}, squares)
    assert seen == list("abc") * 3


def test_an_error_before_the_first_answer_stops_all() -> None:
    stopped: list[str] = []

    def waits(ask: Ask) -> None:
        try:
            ask(1)
        except Stopped:
            stopped.append("waits")
            raise

    def fails(ask: Ask) -> None:
        raise ConfigError("no such file")

    with pytest.raises(ConfigError, match="fails: no such file"):
        take_turns({"waits": waits, "fails": fails}, squares)
    assert stopped == ["waits"]


def test_later_the_others_go_on() -> None:
    def fails(ask: Ask) -> None:
        ask(1)
        raise ConfigError("diverged")

    ended: list[Any] = []
    with pytest.raises(TrainingError) as error:
        take_turns({"a": fails, "b": lambda ask: ended.append([ask(2), ask(3)])}, squares)
    assert error.value.problems == ("a: diverged",)
    assert ended == [[4, 9]]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_any_other_error_stops_all_and_leaves_no_thread(kind: type[BaseException]) -> None:
    def fails(ask: Ask) -> None:
        ask(1)
        raise kind

    before = threading.active_count()
    with pytest.raises(kind):
        take_turns({"a": fails, "b": lambda ask: [ask(1), ask(2)]}, squares)
    assert threading.active_count() == before


def test_what_the_answer_raises_stops_all() -> None:
    def wrong(asked: Mapping[str, Any]) -> dict[str, Any]:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        take_turns({"a": lambda ask: ask(1)}, wrong)
