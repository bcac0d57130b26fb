"""A bar of bytes that are done, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorakit.base_checkpoints import Progress


@contextmanager
def byte_bar(size: int, what: str) -> Iterator[Progress | None]:
    """Tell the bar how many of `size` bytes are done since the last call; `what` is being done."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=size, unit="B", unit_scale=True, desc=what, leave=False) as bar:
        yield lambda count: bar.update(count) and None
