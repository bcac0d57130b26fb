"""Regular expressions on many names at once, in bounded time.

`re` tries one way after another: `(a+)+b` on forty letters takes hours, and the expressions in an
adapter's config are a stranger's. Here nothing is tried twice. The names stand in one text, and a
set of places in it is one integer, in which bit p is the place before character p. Each part of an
expression maps the places where it may begin to those where it may end, all at once:

    text        x a b \\n a b \\n
    "a"         from {0 1 2 4 5}  to  {2, 5}
    "ab"        from {0 1 2 4 5}  to  {3, 6}

A name fits if the place after it is reached from the place before it. That is what full matches of
regular expressions mean; which group matched what, and possessive repetition, have no meaning here.
Read backward, a part maps its ends to its beginnings, which is how `(?=...)` looks ahead.

Source: R. Cameron et al., Bitwise data parallelism in regular expression matching, PACT 2014.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import accumulate
from operator import or_

from lorakit.errors import ConfigError

Places = int

_SEPARATOR = "\n"
_WORK = 5_000_000
"""The steps that all expressions on one text may take together: some seconds."""
_BITS_A_STEP = 1 << 15
_KEPT_BITS = 1 << 28


class Text:
    """Names and the places in them; a line break within a name reads as another letter."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.text = "".join(name.replace(_SEPARATOR, "\ufffd") + _SEPARATOR for name in names)
        self._masks: dict[tuple[str, int], Places] = {}
        self._cost = 1 + len(self.text) // _BITS_A_STEP
        self._work_left = _WORK

    @cached_property
    def everywhere(self) -> Places:
        return (1 << len(self.text)) - 1

    @cached_property
    def ends(self) -> Places:
        """The place after each name."""
        return self._where(_SEPARATOR.__eq__)

    @cached_property
    def begins(self) -> Places:
        return ((self.ends << 1) | 1) & self.everywhere

    def fitting(self, expression: Part) -> list[str]:
        """The names that fit; raises ConfigError if finding them would take too long."""
        reached = expression.move(self, self.begins, True) & self.ends
        flags, found = f"{reached:b}"[::-1], []
        at = flags.find("1")
        while at >= 0:
            found.append(self._ending_at[at])
            at = flags.find("1", at + 1)
        return found

    @cached_property
    def _ending_at(self) -> dict[int, str]:
        """Each name by the place after it."""
        places = accumulate(len(name) + 1 for name in self.names)
        return {place - 1: name for place, name in zip(places, self.names, strict=True)}

    def spend(self) -> None:
        """Count one step."""
        self._work_left -= self._cost
        if self._work_left < 0:
            raise ConfigError(
                "The regular expressions take too long to match against the names of "
                f"{len(self.names):,} modules; make them simpler, or list the names."
            )

    def letters(self, kind: str, flags: int) -> Places:
        """The places before a letter that the expression `kind` for one letter matches."""
        if (kind, flags) not in self._masks:
            fits = re.compile(kind, flags).fullmatch
            self._keep((kind, flags), self._where(lambda letter: fits(letter) is not None))
        return self._masks[kind, flags]

    def words(self, word: str) -> Places:
        """The places before `word`."""
        if (word, -1) not in self._masks:
            found = bytearray(len(self.text) // 8 + 1)
            at = self.text.find(word)
            while at >= 0:
                found[at >> 3] |= 1 << (at & 7)
                at = self.text.find(word, at + 1)
            self._keep((word, -1), int.from_bytes(found, "little"))
        return self._masks[word, -1]

    def _keep(self, key: tuple[str, int], mask: Places) -> None:
        """Keep a mask for the next part like it, within a bounded memory."""
        if len(self._masks) * len(self.text) > _KEPT_BITS:
            self._masks.clear()
        self._masks[key] = mask

    def _where(self, fits: Callable[[str], bool]) -> Places:
        letters = set(self.text)
        table = {ord(letter): "1" if fits(letter) else "0" for letter in letters}
        self._work_left -= len(letters) // 8
        return int(self.text.translate(table)[::-1] or "0", 2)


class Part(ABC):
    """A part of an expression."""

    @abstractmethod
    def move(self, text: Text, places: Places, forward: bool) -> Places:
        """The places where the part ends that begins at `places`; backward, the other way round."""


@dataclass(frozen=True)
class Letter(Part):
    """One letter, but for the line break between names: `.`, `\\d`, `[a-z]`."""

    kind: str
    flags: int = 0

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        text.spend()
        mask = self.mask(text)
        return (places & mask) << 1 if forward else (places >> 1) & mask

    def mask(self, text: Text) -> Places:
        return text.letters(self.kind, self.flags) & ~text.ends


@dataclass(frozen=True)
class Word(Part):
    """These letters, one after the other."""

    letters: str

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        text.spend()
        if _SEPARATOR in self.letters:
            return 0
        mask, length = text.words(self.letters), len(self.letters)
        return (places & mask) << length if forward else (places >> length) & mask


@dataclass(frozen=True)
class Run(Part):
    """Any number of letters of one kind, found by doubling: a run of 2n is two runs of n."""

    letter: Letter

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        run, length = self.letter.mask(text), 1
        while run:
            text.spend()
            places |= (places & run) << length if forward else (places >> length) & run
            run &= run >> length
            length *= 2
        return places


@dataclass(frozen=True)
class Chain(Part):
    """One part after the other; without parts, nothing."""

    parts: tuple[Part, ...]

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        for part in self.parts if forward else reversed(self.parts):
            if not places:
                break
            places = part.move(text, places, forward)
        return places


@dataclass(frozen=True)
class Choice(Part):
    """Any of the parts."""

    parts: tuple[Part, ...]

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        return reduce(or_, (part.move(text, places, forward) for part in self.parts))


@dataclass(frozen=True)
class Repeat(Part):
    """The part `low` to `high` times; None is any number."""

    part: Part
    low: int
    high: int | None

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        for _ in range(self.low):
            text.spend()
            before, places = places, self.part.move(text, places, forward)
            if places == before:  # then it stays so
                break
        new, rounds = places, 0
        while new and rounds != (None if self.high is None else self.high - self.low):
            text.spend()
            new = self.part.move(text, new, forward) & ~places
            places |= new
            rounds += 1
        return places


@dataclass(frozen=True)
class Look(Part):
    """A place that has, or has not, the part ahead of it or behind it."""

    part: Part
    ahead: bool
    wanted: bool

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        found = self.part.move(text, text.everywhere, not self.ahead)
        return places & found if self.wanted else places & ~found


@dataclass(frozen=True)
class Edge(Part):
    """The beginning or end of a name (`^`, `$`), or a place where a word does (`\\b`, `\\B`)."""

    kind: str
    flags: int = 0

    def move(self, text: Text, places: Places, forward: bool) -> Places:
        text.spend()
        if self.kind in "^A":
            return places & text.begins
        if self.kind in "$Z":
            return places & text.ends
        word = Letter(r"\w", self.flags).mask(text)
        border = word ^ (word << 1)
        return places & border if self.kind == "b" else places & ~border
