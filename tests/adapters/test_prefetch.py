"""Adapters that come in by a thread of the set, before they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from lorakit import AdapterSet
from lorakit.adapters.slab import Slab
from tests.adapters.files import output
from tests.adapters.test_budget import ONE, beside, expected, limited, paths, where
from tests.adapters.test_rows import TEXT
from tests.tolerances import MODEL

__all__ = ["expected", "paths"]  # fixtures


def read_by(adapters: AdapterSet, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the adapters whose files are read from now on."""
    reads: list[str] = []
    fetch = adapters._store._fetch

    def counted(member: Any) -> Any:
        reads.append(member.name)
        return fetch(member)

    monkeypatch.setattr(adapters._store, "_fetch", counted)
    return reads


@contextmanager
def slow_thread(adapters: AdapterSet) -> Iterator[None]:
    """Inside, what is prefetched waits and does not begin to come in."""
    go = Event()
    adapters.prefetch(["c"]).result()
    pool: Any = adapters._store._pool
    pool.submit(go.wait, 30)
    try:
        yield
    finally:
        go.set()


def test_prefetched_ones_are_there(
    paths: dict[str, Path], expected: dict[str, torch.Tensor]
) -> None:
    adapters = limited(paths, 2 * ONE)
    adapters.prefetch(["a", "b"]).result()
    assert beside(adapters) == {"a", "b"}
    adapters.activate("a")
    assert_close(output(adapters.model, **TEXT), expected["a"], **MODEL)
    adapters.prefetch(["c"]).result()
    assert beside(adapters) == {"a", "c"}
    with adapters.rows(["a", "c"]):
        adapters.prefetch(["d"]).result()
        assert where(adapters)["d"] == "disk"


def test_prefetching_reads_a_file_once(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = limited(paths, 2 * ONE)
    reads = read_by(adapters, monkeypatch)
    for _ in range(20):
        adapters.prefetch(["a", "b"])
        with adapters.rows(["a", "b"]):
            pass
        with adapters.rows(["c", "d"]):
            pass
    assert len(reads) == 80


def test_a_prefetch_that_comes_late_moves_nothing(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needed the adapter was faster, and others have taken its place since."""
    adapters = limited(paths, 2 * ONE)
    with slow_thread(adapters):
        reads = read_by(adapters, monkeypatch)
        late = adapters.prefetch(["a", "b"])
        for names in (["a", "b"], ["c", "d"]):
            with adapters.rows(names):
                pass
        assert not late.done()
    late.result()
    assert beside(adapters) == {"c", "d"}
    assert reads == ["a", "b", "c", "d"]


def test_one_that_is_unloaded_after_prefetch_is_not_read(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may be gone; the others come in."""
    adapters = limited(paths, 2 * ONE)
    with slow_thread(adapters):
        reads = read_by(adapters, monkeypatch)
        late = adapters.prefetch(["a", "b"])
        adapters.unload("a")
    late.result()
    assert reads == ["b"]
    assert "b" in beside(adapters)


def test_what_is_prefetched_is_read_once_and_may_name_the_base(paths: dict[str, Path]) -> None:
    adapters = limited(paths, 2 * ONE)
    assert beside(adapters) == {"c", "d"}
    adapters.prefetch(iter(["a", None, "b", "a"])).result()
    assert beside(adapters) == {"a", "b"}


def test_whoever_reads_an_adapter_waits_until_it_has_arrived(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA, where it comes by a stream of its own."""
    waited: list[Slab] = []
    adapters = limited(paths, 2 * ONE)
    adapters.prefetch(["a", "b"]).result()
    a, b = (adapters._store.members[name].slab for name in ("a", "b"))
    monkeypatch.setattr(Slab, "let_use", lambda slab: waited.append(slab))
    adapters.save("a", tmp_path / "saved")
    assert waited == [a]
    adapters.activate({"a": 0.5, "b": 0.5})
    assert waited == [a, a, b]
