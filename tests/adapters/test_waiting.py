"""Rows that wait for room which never comes are an error, and others get it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from time import sleep

import pytest

from lorakit import AdapterSet
from lorakit.errors import StateError
from tests.adapters.test_budget import ONE, beside, limited, paths

__all__ = ["paths"]  # a fixture
NO_ROOM = rf"needs an adapter of {ONE:,} bytes, and the budget is {2 * ONE:,} bytes"


@pytest.fixture
def two(paths: dict[str, Path]) -> AdapterSet:
    return limited(paths, 2 * ONE)


def test_threads_that_wait_for_each_other_end(two: AdapterSet) -> None:
    inside = Barrier(2)

    def work(first: str, second: str) -> str:
        with two.rows([first]):
            inside.wait()
            try:
                with two.rows([second]):
                    return "done"
            except StateError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(work, "ab", "cd"), key=len)
    assert results[0] == "done"
    assert f"of which {2 * ONE:,} are taken by" in results[1]
    assert "wait for room too" in results[1]


def test_a_thread_that_a_task_waits_for_does_not_wait_for_the_task(two: AdapterSet) -> None:
    def work() -> None:
        with two.rows(["a"]), pytest.raises(StateError, match=NO_ROOM), two.rows(["c"]):
            pass

    async def serve() -> None:
        with two.rows(["a", "b"]):
            await asyncio.to_thread(work)

    asyncio.run(serve())
    with two.rows(["c", "d"]):
        assert beside(two) == {"c", "d"}


def test_one_waits_while_another_still_gets_its_room(paths: dict[str, Path]) -> None:
    """The first waits with an adapter in hand, but for one who leaves, and not for the second."""
    three, inside, leave, waits = limited(paths, 3 * ONE), Event(), Event(), Event()

    def hold() -> None:
        with three.rows(["a", "b"]):
            inside.set()
            leave.wait()

    def first() -> None:
        with three.rows(["c"]):
            waits.set()
            with three.rows(["d"]):
                pass

    def second() -> None:
        with three.rows(["a", "b", "d"]):
            pass

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(hold)]
        inside.wait()
        running.append(pool.submit(first))
        waits.wait()
        running.append(pool.submit(second))
        sleep(0.05)
        assert not running[2].done()
        leave.set()
        for one in running:
            one.result()


def test_one_who_waits_is_told_when_its_room_is_pinned(two: AdapterSet) -> None:
    inside = Barrier(2)

    def ask() -> None:
        inside.wait()
        with pytest.raises(StateError, match=r"needs 2 adapters"), two.rows(["c", "d"]):
            pass

    with ThreadPoolExecutor(1) as pool, two.rows(["a", "b"]):
        asked = pool.submit(ask)
        inside.wait()
        sleep(0.05)
        two.pin("a")
        asked.result(10)
