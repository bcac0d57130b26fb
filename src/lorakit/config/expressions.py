"""The syntax of regular expressions: Python's, read into the parts that `places` matches.

Everything that says which whole names an expression matches is read. A backreference, a condition
on a group, an atomic group and possessive repetition say more than that, and are refused.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

from lorakit.config.places import Chain, Choice, Edge, Letter, Look, Part, Repeat, Run, Word
from lorakit.errors import ConfigError

_DEEPEST = 50
_LONGEST = 200_000
_KEPT = 100
"""Letters up to which an expression that was read is kept: a config is read again by each copy."""
_SHOWN = 200

_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|N\{[^}]*\}|[dDsSwWafnrtv])")
_COUNT = re.compile(r"\{(?!\})(\d*)(,?)(\d*)\}", re.ASCII)
_OPEN = re.compile(r"\((?:\?(?::|P<\w+>|(?P<flags>[aisu]+):|(?P<look><?[=!])))?")
_GLOBAL_FLAGS = re.compile(r"\(\?([aisu]+)\)")
_COMMENT = re.compile(r"\(\?#[^)]*\)")
_FLAGS = {"i": int(re.IGNORECASE), "a": int(re.ASCII)}
"""Those that matter for one letter of a name: `s` is about line breaks, `u` is the default."""


class _Unsupported(ValueError):
    """What an expression has that is Python's and is not read here."""


def parse(pattern: str) -> Part:
    """The expression's parts; raises ConfigError for one that is invalid or not supported."""
    shown = repr(pattern if len(pattern) <= _SHOWN else f"{pattern[:_SHOWN]}...")
    try:
        if len(pattern) > _LONGEST:
            raise _Unsupported(f"it has {len(pattern):,} letters; the limit is {_LONGEST:,}")
        return _kept(pattern) if len(pattern) <= _KEPT else _read(pattern)
    except _Unsupported as error:
        raise ConfigError(f"the regular expression {shown} is not supported: {error}") from error
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{shown} is not a valid regular expression ({error})") from error


def _read(pattern: str) -> Part:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns about what other syntaxes mean by `[[`
        re.compile(pattern)
    return _Reader(pattern).whole()


_kept = lru_cache(maxsize=8_192)(_read)


class _Reader:
    """Reads an expression of which Python says that it is valid."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.flags = 0
        self.depth = 0

    def whole(self) -> Part:
        if flags := self._taken(_GLOBAL_FLAGS):
            self._set_flags(flags[1])
        return self._choice()

    def _choice(self) -> Part:
        parts = [self._chain()]
        while self._next() == "|":
            self.at += 1
            parts.append(self._chain())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _chain(self) -> Part:
        parts: list[Part] = []
        while self._next() not in ("", "|", ")"):
            if self._taken(_COMMENT):
                continue
            part = self._repeated(self._atom())
            if isinstance(part, Word) and parts and isinstance(parts[-1], Word):
                part = Word(parts.pop().letters + part.letters)  # type: ignore[attr-defined]
            parts.append(part)
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def _atom(self) -> Part:
        letter = self._next()
        if letter == "(":
            return self._group()
        if found := self._taken(_CLASS) or self._taken(_ESCAPE):
            return Letter(found[0], self.flags)
        self.at += 1
        if letter == "\\":
            letter = self._next()
            self.at += 1
            if letter.isdigit():
                raise _Unsupported("it refers to one of its groups")
            if letter in "AZbB":
                return Edge(letter, self.flags)
            letter = f"\\{letter}"
        elif letter in "^$":
            return Edge(letter, self.flags)
        if letter == "." or self.flags & re.IGNORECASE:
            return Letter(letter, self.flags)
        return Word(letter[-1])

    def _group(self) -> Part:
        begin, opened = self.pattern[self.at : self.at + 4], self._taken(_OPEN)
        if opened is None or self._next() == "?":
            raise _Unsupported(
                f"it has a group that begins with {begin!r}; groups may have names, flags (a, i, "
                "s, u), and look ahead or behind"
            )
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Unsupported(f"its groups are nested more than {_DEEPEST} deep")
        before = self.flags
        self._set_flags(opened["flags"] or "")
        part = self._choice()
        self.at += 1  # the closing parenthesis
        self.flags = before
        self.depth -= 1
        look = opened["look"]
        return Look(part, "<" not in look, "=" in look) if look else part

    def _repeated(self, part: Part) -> Part:
        letter = self._next()
        count = self._taken(_COUNT)
        if count:
            low = int(count[1] or 0)
            high = int(count[3]) if count[3] else None if count[2] else low
        elif letter and letter in "*+?":
            self.at += 1
            low, high = int(letter == "+"), 1 if letter == "?" else None
        else:
            return part
        if self._next() == "+":
            raise _Unsupported("it has possessive repetition (*+, ++, ?+)")
        if self._next() == "?":  # as few as possible: the same whole names
            self.at += 1
        if isinstance(part, Word) and len(part.letters) == 1:
            part = Letter(re.escape(part.letters), self.flags)
        if isinstance(part, Letter) and high is None:
            return Chain((Repeat(part, low, low), Run(part)))
        return Repeat(part, low, high)

    def _next(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _taken(self, token: re.Pattern[str]) -> re.Match[str] | None:
        """The token here, which is then behind the reader."""
        found = token.match(self.pattern, self.at)
        if found:
            self.at = found.end()
        return found

    def _set_flags(self, letters: str) -> None:
        if "u" in letters:
            self.flags &= ~re.ASCII
        for letter in letters:
            self.flags |= _FLAGS.get(letter, 0)
