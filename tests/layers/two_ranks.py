"""Two ranks of torch.distributed in one process, each a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import torch.distributed as dist

Group = Any
WAIT = timedelta(seconds=30)


def over_two_ranks(first: Callable[[Group], object], second: Callable[[Group], object]) -> None:
    """Run each over its own end of one gloo group."""
    store = dist.HashStore()

    def rank(number: int, run: Callable[[Group], object]) -> None:
        run(dist.ProcessGroupGloo(store, number, 2, WAIT))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(rank, 0, first), pool.submit(rank, 1, second)]:
            done.result()
