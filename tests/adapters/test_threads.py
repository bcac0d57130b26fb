"""Threads and asyncio tasks that share a model, each with adapters of its own."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import TypeVar

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorakit.adapters import AdapterSet
from lorakit.adapters.choices import BASE, Choice
from lorakit.adapters.routing import Routing
from tests.adapters.files import loaded_set, output, row_by_row, save_all
from tests.injection import zoo
from tests.tolerances import EXACT, MODEL

T = TypeVar("T")
BATCH = zoo.CASES["llama"].batch()
CONFIGS = {
    name: {"r": rank, "target_modules": ["q_proj", "v_proj", "up_proj"]}
    for name, rank in (("a", 2), ("b", 4))
}
COMPOSITIONS: list[list[str | None]] = [["a", "a"], ["b", "b"], ["a", "b"], ["b", None]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all(zoo.llama, tmp_path_factory.mktemp("adapters"), CONFIGS)


@pytest.fixture(scope="module")
def expected(paths: dict[str, Path]) -> list[torch.Tensor]:
    return [row_by_row(zoo.llama, paths, names, **BATCH) for names in COMPOSITIONS]


def activated(paths: dict[str, Path]) -> tuple[nn.Module, AdapterSet]:
    """A model, and a set with adapter "a" for every forward that `rows` does not rule."""
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    adapters.activate("a")
    return model, adapters


def test_each_thread_has_the_rows_that_it_entered(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model = zoo.llama()
    adapters, start = loaded_set(model, paths), Barrier(len(COMPOSITIONS))

    def work(n: int) -> list[torch.Tensor]:
        start.wait()
        results = []
        for _ in range(15):
            with adapters.rows(COMPOSITIONS[n]):
                results.append(output(model, **BATCH))
        return results

    with ThreadPoolExecutor(len(COMPOSITIONS)) as pool:
        for n, results in enumerate(pool.map(work, range(len(COMPOSITIONS)))):
            for result in results:
                assert_close(result, expected[n], **MODEL)


def test_each_task_has_the_rows_that_it_entered(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)

    async def work(n: int) -> torch.Tensor:
        with adapters.rows(COMPOSITIONS[n]):
            await asyncio.sleep(0)
            result = output(model, **BATCH)
            await asyncio.sleep(0)
            return result

    async def all_of_them() -> list[torch.Tensor]:
        return await asyncio.gather(*(work(n) for n in range(len(COMPOSITIONS))))

    for result, right in zip(asyncio.run(all_of_them()), expected, strict=True):
        assert_close(result, right, **MODEL)


def test_a_thread_inherits_rows_in_a_copy_of_the_context_alone(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model = zoo.llama()
    base, adapters = output(model, **BATCH), loaded_set(model, paths)
    found: dict[str, torch.Tensor] = {}

    def work(name: str) -> None:
        found[name] = output(model, **BATCH)

    with adapters.rows(COMPOSITIONS[2]):
        copied = contextvars.copy_context()
        for thread in (
            Thread(target=work, args=("new",)),
            Thread(target=copied.run, args=(work, "copied")),
        ):
            thread.start()
            thread.join()
    assert_close(found["new"], base, **EXACT)
    assert_close(found["copied"], expected[2], **MODEL)


def test_a_context_that_outlives_its_set_chooses_nothing_for_another() -> None:
    """Whatever address the other has."""
    gone = Routing()
    with gone.held(Choice()):
        copied = contextvars.copy_context()
    del gone
    others = [Routing() for _ in range(100)]
    assert all(copied.run(other.choice) is BASE for other in others)


def test_the_default_is_for_all_threads(paths: dict[str, Path]) -> None:
    model, _ = activated(paths)
    right = output(model, **BATCH)
    with ThreadPoolExecutor(1) as pool:
        assert_close(pool.submit(output, model, **BATCH).result(), right, **EXACT)


def test_an_exception_inside_leaves_nothing_behind(paths: dict[str, Path]) -> None:
    model = zoo.llama()
    base, adapters = output(model, **BATCH), loaded_set(model, paths)

    def fail() -> None:
        with adapters.rows(COMPOSITIONS[2]):
            output(model, **BATCH)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert_close(output(model, **BATCH), base, **EXACT)
    adapters.unload("a")


def test_rows_nest(paths: dict[str, Path], expected: list[torch.Tensor]) -> None:
    model = zoo.llama()
    adapters = loaded_set(model, paths)
    with adapters.rows(COMPOSITIONS[2]):
        with adapters.rows(COMPOSITIONS[3]):
            assert_close(output(model, **BATCH), expected[3], **MODEL)
        assert_close(output(model, **BATCH), expected[2], **MODEL)


def within_a_forward(model: nn.Module, run: Callable[[], T]) -> tuple[torch.Tensor, T]:
    """The output of a forward, between whose layers this runs once, and what that gave."""
    found = []

    def inside(*_: object) -> None:
        handle.remove()
        found.append(run())

    handle = model.get_submodule("model.layers.1").register_forward_pre_hook(inside)
    outer = output(model, **BATCH)
    (given,) = found
    return outer, given


def test_a_forward_inside_of_a_forward_leaves_the_rows_around_it(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model, adapters = activated(paths)

    def inside() -> list[torch.Tensor]:
        with adapters.rows(COMPOSITIONS[1]):
            return [output(model, **BATCH) for _ in range(2)]

    outer, found = within_a_forward(model, inside)
    for result in found:
        assert_close(result, expected[1], **MODEL)
    assert_close(outer, expected[0], **MODEL)


def test_a_forward_inside_of_a_forward_leaves_the_default_of_that(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model, adapters = activated(paths)

    def inside() -> torch.Tensor:
        result = output(model, **BATCH)
        adapters.activate("b")
        return result

    for result in within_a_forward(model, inside):
        assert_close(result, expected[0], **MODEL)
    assert_close(output(model, **BATCH), expected[1], **MODEL)


def test_a_forward_in_a_copy_of_the_context_leaves_the_default_of_that_around_it(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    """In another thread, on whose stack the outer one is not."""
    model, adapters = activated(paths)

    def inside() -> torch.Tensor:
        adapters.activate("b")
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, output, model, **BATCH).result()

    for result in within_a_forward(model, inside):
        assert_close(result, expected[0], **MODEL)


def interrupt(model: nn.Module) -> None:
    """Begin a forward, and end it as Ctrl-C does."""

    def raises() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        within_a_forward(model, raises)


def test_an_interrupted_forward_leaves_nothing_behind(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model = zoo.llama()
    base, adapters = output(model, **BATCH), loaded_set(model, paths)
    adapters.activate("a")
    interrupt(model)
    adapters.activate("b")
    for _ in range(2):
        assert_close(output(model, **BATCH), expected[1], **MODEL)
    interrupt(model)
    adapters.deactivate()
    slab = adapters._store.members["b"].slab
    assert slab is not None
    gone = weakref.ref(slab)
    del slab
    adapters.unload("b")
    gc.collect()
    assert gone() is None
    assert_close(output(model, **BATCH), base, **EXACT)


def test_an_interrupted_forward_does_not_keep_its_model(paths: dict[str, Path]) -> None:
    """Nor the functions that called it, which have the set."""

    def interrupted() -> weakref.ref[nn.Module]:
        model = zoo.llama()
        adapters = loaded_set(model, paths)
        adapters.activate("a")
        interrupt(adapters.model)
        return weakref.ref(model)

    gone = interrupted()
    gc.collect()
    assert gone() is None


def test_modules_by_themselves_have_the_default_after_an_interrupted_forward(
    paths: dict[str, Path],
) -> None:
    model, x = zoo.llama(), torch.randn(2, 3, 16)
    adapters, layer = loaded_set(model, paths), model.get_submodule("model.layers.0.mlp.up_proj")
    base = output(layer, input=x)
    adapters.activate("a")
    interrupt(model)
    adapters.deactivate()
    assert_close(output(layer, input=x), base, **EXACT)


def test_rows_around_an_interrupted_forward_and_after_it(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model, adapters = activated(paths)
    interrupt(model)
    adapters.activate("b")
    with adapters.rows(COMPOSITIONS[2]):
        interrupt(model)
        assert_close(output(model, **BATCH), expected[2], **MODEL)
    assert_close(output(model, **BATCH), expected[1], **MODEL)


def test_an_interrupted_forward_inside_of_a_forward_leaves_the_default_of_that(
    paths: dict[str, Path], expected: list[torch.Tensor]
) -> None:
    model, adapters = activated(paths)

    def inside() -> None:
        interrupt(model)
        adapters.activate("b")

    outer, _ = within_a_forward(model, inside)
    assert_close(outer, expected[0], **MODEL)
    assert_close(output(model, **BATCH), expected[1], **MODEL)
