"""Values by module name, where the keys are regular expressions or dotted suffixes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


def key_regex(key: str) -> str:
    """A key as a regular expression for full names."""
    return rf"(.*\.)?({key})"


class Pattern(Generic[T]):
    """A value by module name: that of the first key that matches the module.

    A key is a regular expression or a dotted suffix. A key of the form `^` + escaped full name is
    looked up instead of matched, since a file may have one for each module.
    """

    def __init__(self, given: Mapping[str, T]) -> None:
        self._values = list(given.values())
        self._positions: dict[str, int] = {}
        """Full name -> the position of its key."""
        self._regexes: list[tuple[int, str, re.Pattern[str]]] = []
        self._exact_keys: dict[str, str] = {}
        for position, key in enumerate(given):
            name = _exact_name(key)
            if name is None:
                self._regexes.append((position, key, re.compile(key_regex(key))))
            else:
                self._positions[name] = position
                self._exact_keys[name] = key

    def of(self, name: str, default: T) -> T:
        """The value for this module."""
        found = self._positions.get(name, len(self._values))
        for position, _, regex in self._regexes:
            if position > found:
                break
            if regex.fullmatch(name):
                return self._values[position]
        return self._values[found] if found < len(self._values) else default

    def without_match(self, names: Sequence[str]) -> list[str]:
        """The keys that match none of these modules."""
        missing = [self._exact_keys[name] for name in self._exact_keys.keys() - set(names)]
        regexes = self._regexes
        return missing + [key for _, key, regex in regexes if not any(map(regex.fullmatch, names))]


def _exact_name(key: str) -> str | None:
    """The full name that a key of the form `^` + escaped name matches; None for any other key."""
    name = re.sub(r"\\(.)", r"\1", key[1:])
    return name if key == "^" + re.escape(name) else None
