"""What is wrong with several adapters, as one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lorakit.errors import LorakitError


@contextmanager
def noted(problems: list[str], title: str) -> Iterator[None]:
    """Inside, an error of lorakit becomes one of these problems, with this title in front."""
    try:
        yield
    except LorakitError as error:
        problems.append(f"{title}: {error}".replace("\n", "\n  "))
