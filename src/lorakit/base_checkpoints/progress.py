"""Who is told what is done of a long work, in bytes: a bar on a terminal, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

Progress = Callable[[int], None]
"""Told how many bytes are done since the last call."""
Bar = Callable[[int], AbstractContextManager[Progress | None]]
"""From all bytes to a context in which those that are done are told."""
_Part = TypeVar("_Part")


def untold(size: int) -> AbstractContextManager[None]:
    """A bar that tells nobody."""
    return nullcontext()


def told(
    parts: Mapping[str, _Part], size_of: Callable[[_Part], int], bar: Bar
) -> Iterator[tuple[str, _Part]]:
    """The items; each counts its bytes when the next is asked for."""
    sizes = {name: size_of(part) for name, part in parts.items()}
    with bar(sum(sizes.values())) as progress:
        for name, part in parts.items():
            yield name, part
            if progress is not None:
                progress(sizes[name])
