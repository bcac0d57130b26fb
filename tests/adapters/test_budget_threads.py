"""Threads that share a set whose budget has room for fewer adapters than they use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread
from time import sleep

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lorakit.errors import StateError
from tests.adapters.files import output
from tests.adapters.test_budget import NAMES, ONE, beside, expected, limited, paths
from tests.adapters.test_rows import TEXT
from tests.tolerances import MODEL

__all__ = ["expected", "paths"]  # fixtures
Batch = list[str | None]
BATCH = st.lists(st.sampled_from(NAMES), min_size=2, max_size=2).flatmap(
    lambda two: st.lists(st.sampled_from([None, *two]), min_size=8, max_size=8)
)
BATCHES = st.lists(BATCH, min_size=2, max_size=4)


@settings(max_examples=10)
@given(st.lists(BATCHES, min_size=2, max_size=3), st.sampled_from([2, 3]), st.sampled_from([0, 1]))
def test_every_row_is_right_whoever_has_to_wait(
    paths: dict[str, Path],
    expected: dict[str, torch.Tensor],
    work: list[list[Batch]],
    budget: int,
    host: int,
) -> None:
    """As in a set without a budget, for whatever batches in two and three threads."""
    adapters, free = limited(paths, budget * ONE, host * ONE), limited(paths, 4 * ONE)
    start = Barrier(len(work))

    def results(batches: list[Batch]) -> list[torch.Tensor]:
        start.wait()
        found = []
        for batch in batches:
            adapters.prefetch([name for name in {*batch} if name is not None])
            with adapters.rows(batch):
                found.append(output(adapters.model, **TEXT))
        return found

    with ThreadPoolExecutor(len(work)) as pool:
        for batches, found in zip(work, pool.map(results, work), strict=True):
            for batch, got in zip(batches, found, strict=True):
                with free.rows(batch):
                    assert_close(got, output(free.model, **TEXT), **MODEL)
    assert len(beside(adapters)) <= budget


def test_rows_wait_for_those_of_another_thread(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    adapters, inside, leave = limited(paths, 2 * ONE), Event(), Event()
    found: list[torch.Tensor] = []

    def hold() -> None:
        with adapters.rows(["a", "b"]):
            inside.set()
            leave.wait()

    def ask() -> None:
        with adapters.rows(["c"] * 8):
            found.append(output(adapters.model, **TEXT))

    holder, asker = Thread(target=hold), Thread(target=ask)
    holder.start()
    inside.wait()
    asker.start()
    asker.join(0.05)
    assert asker.is_alive()
    leave.set()
    asker.join()
    holder.join()
    assert_close(found[0], expected["c"], **MODEL)


def test_a_set_that_is_closed_lets_nobody_wait(paths: dict[str, Path]) -> None:
    adapters, waits = limited(paths, ONE), Event()

    def ask() -> None:
        waits.set()
        with pytest.raises(StateError, match="'b'"), adapters.rows(["b"]):
            pass

    with ThreadPoolExecutor(1) as pool:
        with adapters.rows(["a"]):
            asked = pool.submit(ask)
            waits.wait()
            sleep(0.05)
            adapters.close()
        asked.result()


def test_rows_inside_of_rows_do_not_wait_for_themselves(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 2 * ONE)
    with adapters.rows(["a", "b"]):
        message = rf"needs an adapter of {ONE:,} bytes.*of which {2 * ONE:,} are taken"
        with pytest.raises(StateError, match=message), adapters.rows(["c"]):
            pass
        with adapters.rows(["b"]):
            assert beside(adapters) == {"a", "b"}
    with adapters.rows(["c", "d"]):
        assert beside(adapters) == {"c", "d"}


def test_a_forward_keeps_what_another_thread_puts_away(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    """Another one is activated, which needs its room, while a forward is under way."""
    adapters, inside, go = limited(paths, ONE), Event(), Event()
    model = adapters.model
    adapters.activate("a")

    def pause(*_: object) -> None:
        inside.set()
        go.wait()

    handle = model.get_submodule("model.layers.1").register_forward_pre_hook(pause)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(output, model, **TEXT)
        inside.wait()
        handle.remove()
        adapters.activate("b")
        assert beside(adapters) == {"b"}
        go.set()
        assert_close(running.result(), expected["a"], **MODEL)
    assert_close(output(model, **TEXT), expected["b"], **MODEL)
