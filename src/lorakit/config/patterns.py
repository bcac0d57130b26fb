"""Values by module name, where the keys are regular expressions or dotted suffixes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Generic, TypeVar

from lorakit.config.expressions import parse
from lorakit.config.places import Part, Text
from lorakit.config.plain_keys import PlainKeys, is_plain
from lorakit.errors import ConfigError

T = TypeVar("T")


class Pattern(Generic[T]):
    """A value by module name: that of the first key that matches the module.

    A key is a regular expression or a dotted suffix. Plain names and keys of the form `^` + escaped
    full name are looked up instead of matched, since a file may have one for each module.
    """

    def __init__(self, given: Mapping[str, T]) -> None:
        self._values = list(given.values())
        self._positions: dict[str, int] = {}
        """Full name -> the position of its key."""
        self._expressions: list[tuple[int, str, Part]] = []
        self._exact_keys: dict[str, str] = {}
        self._plain = {key: at for at, key in enumerate(given) if is_plain(key)}
        self._plain_keys = PlainKeys(self._plain)
        for position, key in enumerate(given):
            name = exact_name(key)
            if name is not None:
                self._positions[name] = position
                self._exact_keys[name] = key
            elif key not in self._plain:
                self._expressions.append((position, key, parse(key_regex(key))))

    def of(self, names: Sequence[str], default: T) -> dict[str, T]:
        """The value for each of these modules."""
        none = len(self._values)
        found = {
            name: min((self._positions.get(name, none), *self._plain_keys.matching(name)))
            for name in names
        }
        text = Text(names)
        for position, _, expression in self._expressions:
            for name in text.fitting(expression):
                found[name] = min(found[name], position)
        return {name: self._values[at] if at < none else default for name, at in found.items()}

    def without_match(self, names: Sequence[str]) -> list[str]:
        """The keys that match none of these modules."""
        missing = [self._exact_keys[name] for name in self._exact_keys.keys() - set(names)]
        matched = {position for name in names for position in self._plain_keys.matching(name)}
        missing += [key for key, position in self._plain.items() if position not in matched]
        text = Text(names)
        return missing + [key for _, key, part in self._expressions if not text.fitting(part)]


def key_regex(key: str) -> str:
    """A key as a regular expression for full names."""
    return rf"(.*\.)?({key})"


def key_problems(keys: Collection[str]) -> list[str]:
    """Why keys cannot be used: each has a `key_problem`, or they take too long to be read."""
    expressions = [key for key in keys if not is_plain(key) and exact_name(key) is None]
    letters = sum(map(len, expressions))
    if len(expressions) > _MOST or letters > _LETTERS:
        return [
            f"{len(expressions):,} keys are regular expressions, of {letters:,} letters together; "
            f"the limits are {_MOST:,} and {_LETTERS:,}. Names of modules have no limit"
        ]
    return [problem for key in expressions if (problem := key_problem(key)) is not None]


_MOST, _LETTERS = 2_000, 200_000
"""Reading as many takes about a second."""


def key_problem(key: str) -> str | None:
    """Why a key cannot be used: it has to be an expression alone, and in the one for full names."""
    if is_plain(key) or exact_name(key) is not None:
        return None
    return pattern_problem(key) or pattern_problem(key_regex(key))


def pattern_problem(pattern: str) -> str | None:
    """Why a regular expression cannot be used, if it cannot."""
    try:
        parse(pattern)
    except ConfigError as error:
        return str(error)
    return None


def exact_name(key: str) -> str | None:
    """The full name that a key of the form `^` + escaped name matches; None for any other key."""
    name = re.sub(r"\\(.)", r"\1", key[1:])
    return name if key == "^" + re.escape(name) else None
