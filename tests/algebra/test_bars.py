"""A bar is told of all bytes of the adapters that are computed, module after module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import lorakit as lora
from lorakit.algebra import Outcome
from lorakit.base_checkpoints import Bar
from lorakit.variants import LinearSite
from tests.algebra.adapters import adapter, bundle

MODULES = {name: adapter(LinearSite(7, 5), 2) for name in ("q", "k", "v")}
BYTES = sum(x.bytes for x in MODULES.values())


def resized(bar: Bar) -> Outcome:
    return lora.resize(bundle(MODULES), rank=1, bar=bar)


def combined(bar: Bar, **options: Any) -> Outcome:
    return lora.combine([(bundle(MODULES), 0.5), (bundle(MODULES), 1.0)], bar=bar, **options)


WORKS: dict[str, tuple[Callable[[Bar], Outcome], int]] = {
    "resize": (resized, BYTES),
    "linear": (combined, 2 * BYTES),
    "ties": (lambda bar: combined(bar, method="ties"), 2 * BYTES),
    "alone": (lambda bar: lora.combine([(bundle(MODULES), 1)], rank=1, bar=bar), BYTES),
}


@pytest.mark.parametrize("name", WORKS)
def test_bar_sees_all_bytes(name: str) -> None:
    work, size = WORKS[name]
    sizes: list[int] = []
    told: list[int] = []

    @contextmanager
    def bar(size: int) -> Iterator[Callable[[int], None]]:
        sizes.append(size)
        yield told.append

    assert len(work(bar).bundle.adapters) == 3
    assert sizes == [size]
    assert told == [size // 3] * 3
