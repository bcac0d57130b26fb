"""A set with a budget: who is beside the base, who leaves, and what does not fit."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lorakit import AdapterSet, LoraConfig
from lorakit.adapters.slab import Slab
from lorakit.checkpoint import read
from lorakit.errors import ConfigError, FormatError, StateError
from tests.adapters.files import alone, output, rewrite, save
from tests.adapters.test_rows import TEXT
from tests.injection import zoo
from tests.tolerances import MODEL

NAMES = ("a", "b", "c", "d")
ONE = 4 * 2 * 2 * (16 + 16)
"""Bytes of each of them: two layers of 16, rank 2."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("adapters")
    config: dict[str, Any] = {"r": 2, "target_modules": ["q_proj"]}
    return {n: save(zoo.llama, directory / n, seed, **config) for seed, n in enumerate(NAMES)}


@pytest.fixture(scope="module")
def expected(paths: dict[str, Path]) -> dict[str, torch.Tensor]:
    return {name: output(alone(zoo.llama, path), **TEXT) for name, path in paths.items()}


def limited(paths: dict[str, Path], budget: int | str, host: int | str = 0) -> AdapterSet:
    adapters = AdapterSet(zoo.llama(), budget, host_budget=host)
    for name, path in paths.items():
        adapters.load(name, path)
    return adapters


def where(adapters: AdapterSet) -> dict[str, str]:
    return {loaded.name: loaded.where for loaded in adapters.list()}


def beside(adapters: AdapterSet) -> set[str]:
    return {name for name, place in where(adapters).items() if place == "device"}


def in_memory() -> int:
    """Bytes of all tensors that look like these adapters', each piece of memory once."""
    gc.collect()
    pieces = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if type(t) is torch.Tensor and t.untyped_storage().nbytes() == ONE
    }
    return sum(pieces.values())


def test_the_least_recently_used_leaves(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 2 * ONE)
    assert where(adapters) == {"a": "disk", "b": "disk", "c": "device", "d": "device"}
    adapters.activate("c")
    adapters.deactivate()
    adapters.activate("a")
    assert beside(adapters) == {"a", "c"}
    assert str(adapters.list()[1]).endswith(", on disk")


@pytest.mark.parametrize(("host", "there"), [(0, set()), (ONE, {"b"}), ("1MiB", {"a", "b"})])
def test_what_leaves_stays_in_host_memory_as_far_as_it_has_room(
    paths: dict[str, Path], host: int | str, there: set[str], expected: dict[str, torch.Tensor]
) -> None:
    adapters = limited(paths, 2 * ONE, host)
    assert {name for name, place in where(adapters).items() if place == "host"} == there
    for name in paths:
        adapters.activate(name)
        assert_close(output(adapters.model, **TEXT), expected[name], **MODEL)


def test_every_one_computes_as_alone_however_often_it_left(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    adapters = limited(paths, 2 * ONE)
    for name in [*NAMES, *reversed(NAMES)]:
        adapters.activate(name)
        assert_close(output(adapters.model, **TEXT), expected[name], **MODEL)
    with adapters.rows(["a", "d"] * 4):
        mixed = output(adapters.model, **TEXT)
    assert_close(mixed[::2], expected["a"][::2], **MODEL)
    assert_close(mixed[1::2], expected["d"][1::2], **MODEL)


def test_the_memory_of_what_leaves_is_given_back(paths: dict[str, Path]) -> None:
    before = in_memory()
    adapters = limited(paths, 2 * ONE)
    for name in NAMES * 2:
        adapters.activate(name)
        with adapters.rows([name] * 7 + [None]):
            output(adapters.model, **TEXT)
        assert in_memory() - before <= 2 * ONE
    assert in_memory() - before == 2 * ONE == sum(a.nbytes for a in adapters.list()) / 2
    adapters.deactivate()
    adapters.unload("c")
    adapters.unload("d")
    assert in_memory() == before


def test_what_is_in_use_does_not_leave(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 3 * ONE)
    adapters.activate("a")
    adapters.pin("b")
    for name in ("c", "d", "c"):
        with adapters.rows([name, None]):
            assert beside(adapters) == {"a", "b", name}
    adapters.unpin("b")
    with adapters.rows(["c", "d"]):
        assert beside(adapters) == {"a", "c", "d"}


def test_one_that_trains_does_not_leave(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 3 * ONE)
    adapters.add("new", LoraConfig(r=2, target_modules=["q_proj"]))
    parameters = list(adapters.parameters("new"))
    for name in NAMES:
        adapters.activate(name)
    assert "new" in beside(adapters)
    assert all(a is b for a, b in zip(parameters, adapters.parameters("new"), strict=True))


def test_a_pinned_one_is_pinned_once(paths: dict[str, Path]) -> None:
    adapters = limited(paths, ONE)
    adapters.pin("a")
    adapters.pin("a")
    adapters.unpin("a")
    adapters.unpin("a")
    adapters.activate("b")
    assert beside(adapters) == {"b"}


def test_a_budget_too_small_for_a_batch_names_both_numbers(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 2 * ONE)
    message = rf"rows\(\) needs 3 adapters of {3 * ONE:,} bytes.*the budget is {2 * ONE:,} bytes"
    with pytest.raises(StateError, match=message), adapters.rows(["a", "b", "c", "a"]):
        pass
    adapters.pin("a")
    message = rf"activate\(\) needs 2 adapters of {2 * ONE:,} .* of which {ONE:,} are taken"
    with pytest.raises(StateError, match=message):
        adapters.activate({"b": 0.5, "c": 0.5})
    with pytest.raises(StateError, match=rf"'new' takes {8 * ONE:,} bytes"):
        adapters.add("new", LoraConfig(r=16, target_modules=["q_proj"]))
    with pytest.raises(StateError, match=rf"prefetch\(\) needs 3 adapters of {3 * ONE:,} bytes"):
        adapters.prefetch(["a", "b", "c"])
    assert "new" not in where(adapters)


def test_an_adapter_above_the_budget_is_refused(paths: dict[str, Path]) -> None:
    adapters = AdapterSet(zoo.llama(), ONE - 1)
    with pytest.raises(StateError, match=rf"'a' takes {ONE:,} bytes.*{ONE - 1:,}"):
        adapters.load("a", paths["a"])
    assert adapters.list() == []


@pytest.fixture
def own(paths: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Copies of the files, which may be changed."""
    return {
        name: save(zoo.llama, tmp_path / name, seed, r=2, target_modules=["q_proj"])
        for seed, name in enumerate(("a", "b"))
    }


def change_numbers(path: Path) -> None:
    save(zoo.llama, path, 7, r=2, target_modules=["q_proj"])


def change_alpha(path: Path) -> None:
    save(zoo.llama, path, 0, r=2, lora_alpha=3, target_modules=["q_proj"])


def remove(path: Path) -> None:
    (path / "adapter_model.safetensors").unlink()


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_numbers, "has changed since it was loaded"),
        (change_alpha, "has changed since it was loaded"),
        (remove, "can no longer be read"),
    ],
)
def test_a_file_that_has_changed_is_refused(
    own: dict[str, Path], change: Any, message: str, foreign: bool
) -> None:
    if foreign:
        rewrite(own["a"], torch.float32)
    adapters = limited(own, ONE)
    change(own["a"])
    with pytest.raises(FormatError, match=message), adapters.rows(["a", None]):
        pass
    with pytest.raises(FormatError, match=message):
        adapters.prefetch(["a"]).result()
    adapters.activate("b")  # the others go on
    adapters.unload("a")


def test_an_evicted_one_is_saved(paths: dict[str, Path], tmp_path: Path) -> None:
    adapters = limited(paths, ONE)
    again = adapters.save("a", tmp_path / "again")
    assert where(adapters)["a"] == "disk"
    other = AdapterSet(zoo.llama())
    assert other.load("a", again).nbytes == ONE


def test_one_that_comes_in_may_push_another_out_of_host_memory(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    adapters = limited(paths, 2 * ONE, ONE)
    assert where(adapters) == {"a": "disk", "b": "host", "c": "device", "d": "device"}
    with adapters.rows(["a", "b"] * 4):
        mixed = output(adapters.model, **TEXT)
    assert_close(mixed[1::2], expected["b"][1::2], **MODEL)
    assert beside(adapters) == {"a", "b"}


def test_what_is_held_is_released_where_it_cannot_come_in(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = limited(paths, 2 * ONE)

    def fail(self: Slab, device_of: object) -> Slab:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Slab, "beside", fail)
        with pytest.raises(torch.OutOfMemoryError), adapters.rows(["a", "b"]):
            pass
    with adapters.rows(["c", "d"]):
        assert beside(adapters) == {"c", "d"}


def test_one_without_a_file_stays_in_host_memory(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    adapters = AdapterSet(zoo.llama(), ONE)
    adapters.load_bundle("a", read(paths["a"]), "a bundle")
    for name in ("b", "c"):
        adapters.load(name, paths[name])
    assert where(adapters) == {"a": "host", "b": "disk", "c": "device"}
    adapters.activate("a")
    assert_close(output(adapters.model, **TEXT), expected["a"], **MODEL)


def test_one_in_host_memory_comes_in_where_its_modules_are_now(paths: dict[str, Path]) -> None:
    adapters = AdapterSet(zoo.llama(), ONE)
    adapters.load_bundle("a", read(paths["a"]), "a bundle")
    adapters.load("b", paths["b"])
    assert where(adapters) == {"a": "host", "b": "device"}
    adapters.model.to("meta")
    adapters.activate("a")
    slab = adapters._store.members["a"].slab
    assert slab is not None
    assert {t.device.type for entry in slab.entries.values() for t in entry.tensors} == {"meta"}


@pytest.mark.parametrize("wrong", ["2 gigs", "GiB", -1, True, 1.5, "", "-2GiB"])
def test_what_is_no_size_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="is no number of bytes"):
        AdapterSet(zoo.llama(), wrong)


def test_a_host_budget_needs_a_budget() -> None:
    with pytest.raises(ConfigError, match="without budget="):
        AdapterSet(zoo.llama(), host_budget="1GiB")
