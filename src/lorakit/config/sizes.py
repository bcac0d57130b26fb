"""How many bytes a size is: a number, or a text such as `500MB`, `2GB`, `1.5 GiB`."""

from __future__ import annotations

import math
import re

from lorakit.config.values import is_index
from lorakit.errors import ConfigError

Size = int | str
"""Bytes, or a text such as "2GiB"."""

_UNITS = {
    prefix + unit: base**power
    for unit, base in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("", "k", "M", "G", "T"))
    if prefix + unit != "iB"
}
_OF_TEXT = {"": 1} | {unit.lower(): size for unit, size in _UNITS.items()}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def size_of(what: str, value: Size) -> int:
    """The bytes of a setting; units are read in any case.

    Raises ConfigError for what is no size.

    >>> size_of("budget", "1.5GiB"), size_of("budget", "16gb"), size_of("budget", 10)
    (1610612736, 16000000000, 10)
    """
    if isinstance(value, int) and is_index(value):
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    unit = None if found is None else _OF_TEXT.get(found[2].lower())
    size = math.inf if found is None or unit is None else float(found[1]) * unit
    if not math.isfinite(size):
        raise ConfigError(
            f"{what}={value!r} is no number of bytes; give a whole number, or a text such as "
            f"'2GiB' or '500 MB' (units: {', '.join(_UNITS)})."
        )
    return int(size)
