"""The progress bars that `datasets` shows by itself, whoever asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def progress_bars(wanted: bool) -> Iterator[None]:
    """Inside there are none unless they are `wanted`."""
    import datasets

    before = datasets.are_progress_bars_disabled()
    if not wanted:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not wanted and not before:
            datasets.enable_progress_bars()
