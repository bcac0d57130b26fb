"""Changes that are made wholly or not at all, whenever the user interrupts."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def complete(steps: Sequence[Callable[[], None]]) -> None:
    """Run these steps; when they are interrupted, run them again to the end, and then raise.

    What can fail has to be done before. A step that has run, wholly or in part, must bear to run
    again.
    """
    try:
        for step in steps:
            step()
    except BaseException:
        for step in steps:
            step()
        raise
