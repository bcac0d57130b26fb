"""Expressions that `re` itself may carry out, where groups are needed: those that try few ways.

`re` tries one way after another. Each repetition and each choice multiplies the ways that there
are: by the letters of the name, by the times, by the alternatives. One inside another multiplies
them without end and is refused; so is a product that is too large for the names at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from lorakit.config.expressions import parse
from lorakit.config.places import Chain, Choice, Letter, Look, Part, Repeat, Run, Word
from lorakit.errors import ConfigError

_WORK = 10**10
"""The ways that all names may have together; an expression rarely takes a thousandth of them."""


class _Nested(ValueError):
    """A repetition or choice inside a repetition."""


def bounded_problem(pattern: str, names: Sequence[str]) -> str | None:
    """Why an expression is not searched for in these names with `re`; None if it is.

    >>> bounded_problem(r"^(.*)\\.q_proj$", ["layers.0.q_proj"]) is None
    True
    >>> bounded_problem("(a+)+b", ["aaaa"])
    "'(a+)+b' repeats a group in which something is repeated or chosen; repeat single letters"
    """
    try:
        part = parse(pattern)
        work = sum(len(name) * _ways(part, len(name) + 1) for name in names)
    except ConfigError as error:
        return str(error)
    except _Nested:
        return (
            f"{pattern[:100]!r} repeats a group in which something is repeated or chosen; repeat "
            "single letters"
        )
    if work > _WORK:
        return f"{pattern[:100]!r} has too many repetitions and choices for these names"
    return None


def _ways(part: Part, length: int) -> int:
    """How many ways a part may be tried at one place of a name of this length, at most."""
    if isinstance(part, Chain):
        return min(_WORK, prod(min(_WORK, _ways(inner, length)) for inner in part.parts))
    if isinstance(part, Choice):
        return sum(_ways(inner, length) for inner in part.parts)
    if isinstance(part, Run):
        return length
    if isinstance(part, Look):
        return _ways(part.part, length)
    if isinstance(part, Repeat):
        if not isinstance(part.part, Letter | Word) and _ways(part.part, length) > 1:
            if part.high == 1:
                return 1 + _ways(part.part, length)
            raise _Nested
        return length if part.high is None else min(length, part.high - part.low + 1)
    return 1
