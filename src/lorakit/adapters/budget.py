"""How many bytes of adapters may be beside the base, and in host memory behind it."""

from __future__ import annotations

from typing import NamedTuple

from lorakit.config.sizes import Size, size_of
from lorakit.errors import ConfigError, StateError


class Budget(NamedTuple):
    """Both numbers, in bytes."""

    bytes: int | None
    """Beside the base; None for no limit."""
    on_host: int = 0


def budget_of(budget: Size | None, host_budget: Size) -> Budget:
    """Raises ConfigError for what is no number of bytes, and for a host budget behind no budget."""
    if budget is None and host_budget:
        raise ConfigError(
            f"host_budget={host_budget!r} is for adapters that leave the base's device, and "
            "without budget=... none does; give one, or leave host_budget out."
        )
    beside = None if budget is None else size_of("budget", budget)
    return Budget(beside, size_of("host_budget", host_budget))


def too_small(what: str, needed: int, budget: int, others: int) -> StateError:
    """The error of a budget without room for what is needed at one time."""
    held = (
        f", of which {others:,} are taken by adapters that are active, pinned, in training or in "
        "rows() that this thread is in or that wait for room too"
        if others
        else ""
    )
    return StateError(
        f"{what} {needed:,} bytes, and the budget is {budget:,} bytes{held}. Give AdapterSet a "
        "larger budget, or use fewer adapters at one time."
    )
