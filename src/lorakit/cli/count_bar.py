"""A count of what is done, on a terminal, where nobody knows how much there will be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def count_bar(unit: str, what: str) -> Iterator[Callable[[], None] | None]:
    """Tell the bar that one more is done; `what` is being done."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=unit, desc=what, leave=False) as bar:
        yield lambda: bar.update() and None
