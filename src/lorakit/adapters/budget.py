"""How many bytes of adapters may be beside the base, and in host memory behind it."""

from __future__ import annotations

import re
from typing import NamedTuple

from lorakit.errors import ConfigError, StateError

Size = int | str
"""Bytes, or a text such as "2GiB"."""

_UNITS = {
    prefix + unit: base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("", "k", "M", "G", "T"))
} | {"KB": 1000, "KiB": 1024}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


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


def size_of(what: str, value: Size) -> int:
    """A number of bytes.

    >>> size_of("budget", "1.5GiB"), size_of("budget", 10)
    (1610612736, 10)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in _UNITS:
        raise ConfigError(
            f"{what}={value!r} is no number of bytes; give an int, or a text such as '2GiB' "
            f"(units: {', '.join(_UNITS)})."
        )
    return int(float(found[1]) * _UNITS[found[2]])


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
